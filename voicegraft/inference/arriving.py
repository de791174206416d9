"""Sound that is still arriving: what can be heard and read before its end is heard and read before it.

    arriving = Arriving(listener, "answer", sample_rate=16000)
    arriving.push(block)                        # as often as there is sound
    for piece in arriving.finish(): ...

In pure mode the encoder is at work while the sound arrives, and the LLM has read the words before it; so its first token
comes soon after the end. The other modes wait for the recogniser, whose window is 30 s.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from voicegraft.audio.io import resampled
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Waveform
from voicegraft.data.listening_tasks import prompt_of
from voicegraft.encoders.listening import SHORTEST_SEC
from voicegraft.encoders.recognizer import RATE, Words, speech_stretches
from voicegraft.inference.listener import TRANSCRIBE, Answer, HeardSegment, Listener, ListeningReport, wording_of
from voicegraft.inference.writer import WritingOptions


class Arriving:
    """One recording: ``push`` blocks of it, then ``finish``."""

    def __init__(self, listener: Listener, task: str, sample_rate: int, language: str = "en"):
        """
        Args:
            task: as of ``Listener.listen``.
            sample_rate: Hz, of the blocks.

        Raises:
            VoicegraftError: no rate, no task, or as of ``Listener.writer``.
        """
        self._listener, self._task, self._rate, self._language = listener, task, sample_rate, language
        if sample_rate <= 0 or not task.strip():
            raise VoicegraftError(f"expected a rate above 0 Hz and a task, got {sample_rate} and {task!r}")
        self._blocks: list[np.ndarray] = []
        self._finished = False
        self._stream = None
        if listener.mode == "pure" and task != TRANSCRIBE:
            hearing = listener.writer.lm.hearing
            assert hearing is not None  # nothing else is pure
            self._stream = hearing.start(sample_rate)
            to_come = Waveform(np.zeros(0, np.float32), sample_rate)
            self._beginning = listener.writer.begin(prompt_of(wording_of(task), to_come))

    def push(self, samples: np.ndarray) -> None:
        """The next samples ``[T]``, mono float32 in [-1, 1]. Raises VoicegraftError: they are others, or it was finished."""
        if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
            raise VoicegraftError(f"expected mono float32 samples [T] in [-1, 1], got {samples.dtype} {samples.shape}")
        if self._finished:
            raise VoicegraftError("this recording was finished; begin another")
        samples = samples.astype(np.float32)
        self._blocks.append(samples)
        if self._stream is not None:
            self._stream.push(samples)

    def finish(self, options: WritingOptions | None = None, seed: int = 0) -> Answer:
        """The answer to the whole recording; arguments and errors as of ``Listener.listen``."""
        if self._finished:
            raise VoicegraftError("this recording was finished; begin another")
        self._finished = True
        samples = np.concatenate(self._blocks or [np.zeros(0, np.float32)])
        if self._stream is None:
            return self._listener.listen(Waveform(samples, self._rate), self._task, self._language, options, seed)
        report = ListeningReport(len(samples) / self._rate)
        return Answer(self._written(samples, report, options, seed), report)

    def _written(
        self, samples: np.ndarray, report: ListeningReport, options: WritingOptions | None, seed: int
    ) -> Iterator[str]:
        hearing = self._listener.writer.lm.hearing
        stretches = list(speech_stretches(resampled(samples, self._rate, RATE)))
        if self._stream is None or hearing is None or not stretches or report.duration_sec < SHORTEST_SEC:
            return
        sound = self._stream.finish()
        words = hearing.words(sound) or Words("")
        report.segments.append(HeardSegment(stretches[0][0] / RATE, stretches[-1][1] / RATE, words.text, words.sure))
        if not words.sure:
            return
        question = prompt_of(wording_of(self._task), sound)
        writing = self._listener.writer.start(question, options, seed, self._beginning)
        report.writing = writing.report
        yield from writing
