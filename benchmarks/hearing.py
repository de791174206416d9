"""What ``listen`` hears: words of clips, and of all in one long recording; words in silence and noise; the time that it takes.

    python -m benchmarks.hearing --speech corpora/kathleen --limit 40

Beside it the recogniser alone, as ``evaluate speech`` uses it. CPU seconds are those of all threads.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from voicegraft.core.command_line import read_options
from voicegraft.core.messages import Waveform
from voicegraft.evaluation.judges.whisper import english_normalizer
from voicegraft.evaluation.listening.clips import RATE, Spoken, read_clips, unspoken
from voicegraft.evaluation.metrics.rates import word_edits
from voicegraft.inference.listener import Answer, Listener
from voicegraft.inference.writer import WritingOptions


@dataclass(frozen=True)
class HearingBenchmark:
    speech: Path  # a corpus of any layout; clips that are held back from training
    limit: int = 40  # clips
    pack: str | None = None  # listening pack
    mode: Literal["pure", "beside", "cascade"] | None = None
    llm: str | None = None  # for a pack that does not name it
    task: str = "What is this text about? Answer in a few words."  # whose first piece is timed; "" for none
    pause_sec: float = 0.7  # of silence between the clips of the long recording


def main(argv: Sequence[str] | None = None) -> int:
    options = read_options(HearingBenchmark, argv, __doc__, "python -m benchmarks.hearing")
    listener = Listener.load(options.pack, options.mode, options.llm)
    clips, normalize = read_clips(options.speech, limit=options.limit), english_normalizer()
    print(f"{len(clips)} clips, {sum(c.waveform.duration_sec for c in clips):.0f} s; mode {listener.mode}")

    def words(name: str, heard: Sequence[str], said: Sequence[str]) -> None:
        edits = [word_edits(text, got, normalize) for text, got in zip(said, heard, strict=True)]
        rate = sum(e.errors for e in edits) / sum(e.length for e in edits)
        print(f"WER {rate:.3f}  {name}", flush=True)

    texts = [clip.text for clip in clips]
    if listener.mode != "pure":
        words("the recogniser, a clip at a time", [_alone(listener, clip) for clip in clips], texts)
    answers = [_timed(lambda clip=clip: listener.listen(clip.waveform)) for clip in clips]  # type: ignore[misc]
    words("listen, a clip at a time", [answer.text for answer, _, _ in answers], texts)
    _print_times("transcript", answers)
    pause = np.zeros(round(options.pause_sec * RATE), np.float32)
    long = Waveform(np.concatenate([part for clip in clips for part in (clip.waveform.samples, pause)]), RATE)
    began = time.process_time()
    answer = _drained(listener.listen(long))
    cpu = time.process_time() - began
    words(f"listen, one recording of {long.duration_sec:.0f} s ({cpu:.0f} CPU s)", [answer.text], [" ".join(texts)])
    if options.task:
        short = WritingOptions(max_tokens=12)
        _print_times(
            "answer",
            [
                _timed(lambda clip=clip: listener.listen(clip.waveform, options.task, options=short))  # type: ignore[misc]
                for clip in clips[:10]
            ],
        )
    heard = [(clip.corpus, text) for clip in unspoken(50) if (text := _drained(listener.listen(clip.waveform)).text)]
    print(f"words in {len(heard)} of 50 clips of silence, noise and chords {heard or ''}")
    return 0


def _alone(listener: Listener, clip: Spoken) -> str:
    return listener.recognizer.recognize(clip.waveform.samples).text


def _drained(answer: Answer) -> Answer:
    for _ in answer:
        pass
    return answer


def _timed(begin: Callable[[], Answer]) -> tuple[Answer, float, float]:
    """The drained answer, and the seconds of the clock and of the CPU until its first piece."""
    wall, cpu = time.perf_counter(), time.process_time()
    answer = begin()
    next(answer, None)
    times = time.perf_counter() - wall, time.process_time() - cpu
    return _drained(answer), *times


def _print_times(what: str, answers: Sequence[tuple[Answer, float, float]]) -> None:
    wall = statistics.median(wall for _, wall, _ in answers)
    cpu = statistics.median(cpu for _, _, cpu in answers)
    lasts = statistics.median(answer.report.duration_sec for answer, _, _ in answers)
    print(
        f"first piece of the {what} after {1000 * wall:.0f} ms, {1000 * cpu:.0f} ms of CPU (median; clips of {lasts:.1f} s)"
    )


if __name__ == "__main__":
    raise SystemExit(main())
