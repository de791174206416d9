"""The listening API: ``Listener.load(pack).listen(recording)`` yields what was said, or what the text LLM makes of it.

How the LLM hears is its mode: "pure" gives it the vectors of a listening pack, "cascade" the recogniser's transcript, "beside"
both. The transcript is the recogniser's, in pure mode the connector's own reading. Parts are loaded when they are needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TypeAlias, get_args

import numpy as np

from voicegraft.audio.io import open_audio, read_audio, read_frames, resampled, to_mono
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import Loadable, opened
from voicegraft.core.messages import Message, Part, Waveform
from voicegraft.core.parts import JUDGE, PART
from voicegraft.core.runtime import pick_device
from voicegraft.data.listening_tasks import HEARD, REPEAT, load_tasks, prompt_of
from voicegraft.encoders.listening import SHORTEST_SEC
from voicegraft.encoders.recognizer import RATE, FasterWhisper, Words, speech_stretches
from voicegraft.fusion.backbone import BackboneSettings
from voicegraft.fusion.experts import LISTENING
from voicegraft.fusion.listening import ListeningHeader, Mode
from voicegraft.fusion.soft_transcript import SOFT, soft_header
from voicegraft.fusion.text_lm import TextLM
from voicegraft.inference.pack import PACK_HEADER, backbone_of, read_header
from voicegraft.inference.writer import Writer, WritingOptions, WritingReport

Audio: TypeAlias = Path | str | bytes | Waveform  # a file, what a file holds, or samples
TRANSCRIBE, ANSWER = "transcribe", "answer"
RECOGNIZER = f"{PART}{JUDGE}"
BACKBONE = f"{PART}smollm2"  # writes where no pack names another


@dataclass(frozen=True)
class HeardSegment:
    """A stretch of a recording with speech in it."""

    begin_sec: float
    end_sec: float
    text: str  # what was said there; "" where the LLM heard it and nobody wrote it down
    sure: bool = True  # False: a guess, which is in no answer


@dataclass
class ListeningReport:
    """What was heard; complete when its ``Answer`` is drained."""

    duration_sec: float  # of the recording
    text: str = ""  # of the answer so far
    segments: list[HeardSegment] = field(default_factory=list)
    writing: WritingReport | None = None  # of the text LLM, where it was asked
    first_text_sec: float = 0.0  # from the request, when all audio was there, to the first piece
    wall_sec: float = 0.0

    @property
    def warnings(self) -> list[str]:
        """What a reader should know, a line each."""
        if not self.segments:
            return [f"no speech was found in {self.duration_sec:.3g} s of sound"]
        return [
            f"from {s.begin_sec:.1f} to {s.end_sec:.1f} s something was said that was not understood; it may be: {s.text}"
            for s in self.segments
            if not s.sure
        ] + (self.writing.warnings if self.writing else [])


class Answer(Iterator[str]):
    """Pieces of text as they are known; joined, they are ``text``. ``report`` fills up."""

    def __init__(self, pieces: Iterator[str], report: ListeningReport):
        self.report = report
        self._pieces = pieces
        self._began = time.perf_counter()

    @property
    def text(self) -> str:
        """What has come so far."""
        return self.report.text

    @property
    def segments(self) -> Sequence[HeardSegment]:
        """The stretches with speech that have been heard so far."""
        return self.report.segments

    @property
    def warnings(self) -> list[str]:
        return self.report.warnings

    def __next__(self) -> str:
        try:
            piece = next(self._pieces)
        finally:
            self.report.wall_sec = time.perf_counter() - self._began
        self.report.first_text_sec = self.report.first_text_sec or self.report.wall_sec
        self.report.text += piece
        return piece


class Listener(Loadable):
    """``Listener.load`` says what the arguments are; ``from_pretrained`` takes a name on the Hub too."""

    def __init__(
        self,
        mode: Mode,
        open_writer: Callable[[], Writer],
        open_recognizer: Callable[[], FasterWhisper] = lambda: FasterWhisper(opened(RECOGNIZER)),
        name: str = "",
    ):
        """
        Args:
            open_writer: what answers, and hears where the mode is not cascade.
            open_recognizer: where the mode is not pure.
            name: of the text LLM, for people.
        """
        self.mode, self.name = mode, name
        self._open_writer, self._open_recognizer = open_writer, open_recognizer

    @staticmethod
    def load(
        pack: Path | str | None = None,
        mode: Mode | None = None,
        backbone: str | Path | None = None,
        recognizer: str | Path = RECOGNIZER,
        encoder: str | Path | None = None,
        device: str = "cpu",
        settings: BackboneSettings | None = None,
        num_threads: int | None = None,
        writer: Writer | None = None,
    ) -> Listener:
        """Opens a listening pack, or a voice pack that holds one. Models are loaded when they are first needed.

        Args:
            pack: a folder, or hub:NAME[@REVISION]; "soft": the recogniser's soft transcript, for any text LLM. None hears by
                the recogniser alone, unless the mode needs more; then it is "soft".
            mode: how the text LLM hears; None is the pack's own way, without a pack cascade.
            backbone: folder, part or Hub name of the text LLM, where the pack does not name it.
            recognizer: folder or part of a Whisper for CTranslate2; pure mode needs it for a soft transcript alone.
            encoder: folder, part or Hub name of the speech encoder, where it is not what the pack names.
            num_threads: that models compute on; None is their own choice.
            writer: answers, in place of a backbone of the listener's own.

        Raises:
            VoicegraftError: not a listening pack, or no such mode.
        """
        folder, header = _opened(SOFT if pack is None and mode not in (None, "cascade") else pack)
        chosen = mode or (header.mode if header else "cascade")
        if chosen not in get_args(Mode):
            raise VoicegraftError(f"expected a mode of {', '.join(get_args(Mode))}, got {chosen!r}")
        llm = backbone or (header.backbone if header else BACKBONE)
        if not llm:
            raise VoicegraftError(f"{folder} does not name its text LLM: give the backbone that it was trained for")

        def open_writer() -> Writer:
            ears = encoder or (recognizer if str(folder) == SOFT else None)
            lm = TextLM.load(llm, settings, None if chosen == "cascade" else folder, encoder=ears)
            return Writer(lm.to(pick_device(device)), num_threads)

        def open_recognizer() -> FasterWhisper:
            return FasterWhisper(opened(recognizer), num_threads or 0)

        return Listener(chosen, (lambda: writer) if writer else open_writer, open_recognizer, str(llm))

    @cached_property
    def writer(self) -> Writer:
        """The text LLM.

        Raises:
            VoicegraftError: it is missing, damaged, or not the one that the pack was trained for.
        """
        return self._open_writer()

    @cached_property
    def recognizer(self) -> FasterWhisper:
        """Raises VoicegraftError: the part or its package is missing, or damaged."""
        return self._open_recognizer()

    def listen(
        self,
        audio: Audio,
        task: str | None = None,
        language: str = "en",
        options: WritingOptions | None = None,
        seed: int = 0,
    ) -> Answer:
        """Writes what was said, a line for each stretch of speech; or what the text LLM answers.

        Args:
            audio: any length, rate and number of channels.
            task: None or "transcribe"; "answer", as if it had been written, or another task of ``data/listening_tasks.yaml``;
                or an instruction, behind which the LLM finds what was said, or with ``{audio}`` in its place.
            language: of the speech; "" lets the recogniser tell.
            options: how the text LLM writes.
            seed: of sampled writing.

        Raises:
            VoicegraftError: it cannot be read as audio, or an empty instruction; later, as of ``writer`` and ``recognizer``.
        """
        if task is not None and not task.strip():
            raise VoicegraftError("expected a task, such as 'Summarize this:', got an empty text")
        sound = _samples(audio)
        report = ListeningReport(len(sound) / RATE)
        if task is None or task == TRANSCRIBE:
            return Answer(self._transcript(sound, language, report, options), report)
        return Answer(self._written(sound, task, language, report, options, seed), report)

    def message(self, audio: Audio, task: str = ANSWER, language: str = "en") -> tuple[Message | None, ListeningReport]:
        """What was said, as the user's message to ``writer``: None where nothing was. Arguments and errors as of ``listen``."""
        sound = _samples(audio)
        report = ListeningReport(len(sound) / RATE)
        return self._asked(sound, task, language, report), report

    def _transcript(
        self, sound: np.ndarray, language: str, report: ListeningReport, options: WritingOptions | None
    ) -> Iterator[str]:
        for line, (segment, _) in enumerate(self._heard(sound, language, report, options=options)):
            yield f"\n{segment.text}" if line else segment.text

    def _heard(
        self,
        sound: np.ndarray,
        language: str,
        report: ListeningReport,
        reads: bool = True,
        options: WritingOptions | None = None,
    ) -> Iterator[tuple[HeardSegment, Waveform]]:
        """The stretches that were understood."""
        for begin, end in speech_stretches(sound):
            stretch = Waveform(sound[begin:end], RATE)
            if stretch.duration_sec < SHORTEST_SEC:
                continue
            words = self._words(stretch, language, options) if reads else Words("")
            if reads and not any(map(str.isalnum, words.text)):
                continue
            report.segments.append(HeardSegment(begin / RATE, end / RATE, words.text, words.sure))
            if words.sure:
                yield report.segments[-1], stretch

    def _words(self, stretch: Waveform, language: str, options: WritingOptions | None) -> Words:
        if self.mode != "pure":
            return self.recognizer.recognize(stretch.samples, language)
        lm = self.writer.lm
        if lm.hearing is not None and (words := lm.hearing.words(stretch)) is not None:
            if language not in ("", "en"):
                raise VoicegraftError(
                    f"a soft transcript hears English, got the language {language!r}; take mode cascade"
                )
            return words
        read = lm.hearing.read(stretch, lm.tokenizer) if lm.hearing is not None else None
        if read is None:
            read = "".join(self.writer.start(prompt_of(wording_of(REPEAT), stretch), options))
        return Words(read)

    def _asked(self, sound: np.ndarray, task: str, language: str, report: ListeningReport) -> Message | None:
        hearing = self.writer.lm.hearing if self.mode == "pure" else None
        reads = hearing is None or hearing.ears.decoder is not None
        heard = list(self._heard(sound, language, report, reads))
        if not heard:
            return None
        words = " ".join(segment.text for segment, _ in heard)
        parts: list[Part] = [] if self.mode == "cascade" else [stretch for _, stretch in heard]
        if self.mode != "pure":
            parts.append(f"\n{words}" if parts else words)
        return prompt_of(wording_of(task), *parts)[0]

    def _written(
        self,
        sound: np.ndarray,
        task: str,
        language: str,
        report: ListeningReport,
        options: WritingOptions | None,
        seed: int,
    ) -> Iterator[str]:
        if (message := self._asked(sound, task, language, report)) is not None:
            writing = self.writer.start(message, options, seed)
            report.writing = writing.report
            yield from writing


def _opened(pack: Path | str | None) -> tuple[Path | None, ListeningHeader | None]:
    """The folder of a listening pack, or of a voice pack's part, and its header with the backbone that it needs."""
    if pack is None:
        return None, None
    if str(pack) == SOFT:
        return Path(SOFT), soft_header(backbone=BACKBONE)
    folder = opened(pack)
    if not (folder / PACK_HEADER).is_file():
        return folder, ListeningHeader.read(folder)
    header = ListeningHeader.read(folder / LISTENING)
    return folder / LISTENING, replace(header, backbone=str(backbone_of(folder, read_header(folder))))


@cache  # reading the tasks takes a tenth of a second
def wording_of(task: str) -> str:
    """An instruction with a place for what was said."""
    known = load_tasks()
    if task in known:
        return (known[task].trained + known[task].held_out)[0]
    return task if HEARD in task else f"{task}\n{HEARD}"


def _samples(audio: Audio) -> np.ndarray:
    """Mono float32 ``[T]`` at ``RATE``."""
    if isinstance(audio, Waveform):
        if not np.isfinite(audio.samples).all():
            raise VoicegraftError(
                "the samples hold values that are no numbers (NaN or infinite); check where they come from"
            )
        return resampled(audio.samples, audio.sample_rate, RATE)
    if isinstance(audio, bytes):
        with open_audio(audio, "the audio") as file:
            return to_mono(read_frames(file, "the audio"), file.samplerate, RATE).samples
    return read_audio(audio, RATE).samples
