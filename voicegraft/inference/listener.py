"""The listening API: ``Listener.load().listen(recording)`` yields what was said; with a task, what the text LLM makes of it.

How the LLM hears is its mode: "cascade" gives it the recogniser's transcript. Transcribing alone needs no LLM.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from voicegraft.audio.io import open_audio, read_audio, read_frames, resampled, to_mono
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import opened
from voicegraft.core.messages import Message, Waveform
from voicegraft.core.parts import JUDGE, PART
from voicegraft.core.runtime import pick_device
from voicegraft.data.listening_tasks import HEARD, load_tasks, prompt_of
from voicegraft.encoders.recognizer import RATE, FasterWhisper, speech_stretches
from voicegraft.fusion.backbone import BackboneSettings
from voicegraft.fusion.text_lm import TextLM
from voicegraft.inference.writer import Writer, WritingOptions, WritingReport

Mode = Literal["pure", "beside", "cascade"]
Audio: TypeAlias = Path | str | bytes | Waveform  # a file, what a file holds, or samples
TRANSCRIBE, ANSWER = "transcribe", "answer"
RECOGNIZER = f"{PART}{JUDGE}"
BACKBONE = f"{PART}smollm2"  # writes where no pack names another


@dataclass(frozen=True)
class HeardSegment:
    """A stretch of a recording with speech in it."""

    begin_sec: float
    end_sec: float
    text: str  # what was said there
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
            return [f"no speech was found in {self.duration_sec:.1f} s of sound"]
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


class Listener:
    def __init__(
        self,
        recognizer: FasterWhisper,
        backbone: str | Path = BACKBONE,
        device: str = "cpu",
        settings: BackboneSettings | None = None,
        num_threads: int | None = None,
    ):
        self.recognizer = recognizer
        self.mode: Mode = "cascade"
        self._backbone = backbone
        self._device, self._settings, self._num_threads = pick_device(device), settings, num_threads

    @staticmethod
    def load(
        mode: Mode | None = None,
        backbone: str | Path | None = None,
        recognizer: str | Path = RECOGNIZER,
        device: str = "cpu",
        settings: BackboneSettings | None = None,
        num_threads: int | None = None,
    ) -> Listener:
        """Loads what hears; the text LLM is loaded when it is first asked something.

        Args:
            mode: how the text LLM hears.
            backbone: folder, part or Hub name of the text LLM.
            recognizer: folder or part of a Whisper for CTranslate2.
            num_threads: that models compute on; None is their own choice.

        Raises:
            VoicegraftError: a part or a package is missing, or something is damaged.
        """
        if mode not in (None, "cascade"):
            wanted = (
                f"expected a mode of {', '.join(get_args(Mode))}" if mode not in get_args(Mode) else "expected cascade"
            )
            raise VoicegraftError(f"{wanted}, got {mode}: without a listening pack only cascade hears")
        model = FasterWhisper(opened(recognizer), num_threads or 0)
        return Listener(model, backbone or BACKBONE, device, settings, num_threads)

    @cached_property
    def writer(self) -> Writer:
        """The text LLM; loaded when it is first needed."""
        lm = TextLM.load(self._backbone, self._settings)
        lm.backbone.to(self._device)  # type: ignore[arg-type]
        return Writer(lm, self._num_threads)

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
            VoicegraftError: it cannot be read as audio, or an empty instruction.
        """
        if task is not None and not task.strip():
            raise VoicegraftError("expected a task, such as 'Summarize this:', got an empty text")
        sound = _samples(audio)
        report = ListeningReport(len(sound) / RATE)
        if task is None or task == TRANSCRIBE:
            return Answer(self._transcript(sound, language, report), report)
        return Answer(self._written(sound, task, language, report, options, seed), report)

    def message(self, audio: Audio, task: str = ANSWER, language: str = "en") -> tuple[Message | None, ListeningReport]:
        """What was said, as the user's message to ``writer``: None where nothing was. Arguments and errors as of ``listen``."""
        sound = _samples(audio)
        report = ListeningReport(len(sound) / RATE)
        report.text = " ".join(line.strip() for line in self._transcript(sound, language, report))
        known = load_tasks()
        wording = (
            (known[task].trained + known[task].held_out)[0]
            if task in known
            else task
            if HEARD in task
            else f"{task}\n{HEARD}"
        )
        return (prompt_of(wording, report.text)[0] if report.text else None), report

    def _transcript(self, sound: np.ndarray, language: str, report: ListeningReport) -> Iterator[str]:
        begun = False
        for begin, end in speech_stretches(sound):
            words = self.recognizer.recognize(sound[begin:end], language)
            if not words.text:
                continue
            report.segments.append(HeardSegment(begin / RATE, end / RATE, words.text, words.sure))
            if words.sure:
                yield f"\n{words.text}" if begun else words.text
                begun = True

    def _written(
        self,
        sound: np.ndarray,
        task: str,
        language: str,
        report: ListeningReport,
        options: WritingOptions | None,
        seed: int,
    ) -> Iterator[str]:
        message, heard = self.message(Waveform(sound, RATE), task, language)
        report.segments = heard.segments
        if message is not None:
            writing = self.writer.start(message, options, seed)
            report.writing = writing.report
            yield from writing


def _samples(audio: Audio) -> np.ndarray:
    """Mono float32 ``[T]`` at ``RATE``."""
    if isinstance(audio, Waveform):
        return resampled(audio.samples, audio.sample_rate, RATE)
    if isinstance(audio, bytes):
        with open_audio(audio, "the audio") as file:
            return to_mono(read_frames(file, "the audio"), file.samplerate, RATE).samples
    return read_audio(audio, RATE).samples
