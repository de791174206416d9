"""What a speaker hands out: sound as a stream, or drained, with the report of how it was made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from voicegraft.audio.io import AudioWriter, WavPipe
from voicegraft.core.errors import VoicegraftError
from voicegraft.inference.report import SpeechReport, SpokenSentence
from voicegraft.inference.writer import Writing, WritingReport


@dataclass(frozen=True)
class Speech:
    """Drained speech: ``samples`` float32 ``[T]`` in [-1, 1], what was said when, and the report."""

    samples: np.ndarray
    sample_rate: int  # Hz
    sentences: tuple[SpokenSentence, ...]
    report: SpeechReport

    @property
    def spoken_text(self) -> str:
        return " ".join(sentence.spoken for sentence in self.sentences)

    @property
    def duration_sec(self) -> float:
        return self.report.duration_sec

    @property
    def wall_sec(self) -> float:
        return self.report.wall_sec

    @property
    def first_audio_sec(self) -> float:
        return self.report.first_audio_sec

    @property
    def status(self) -> str:
        return self.report.status


class SpeechStream(Iterator[np.ndarray]):
    """Chunks of float32 samples in [-1, 1]; ``report`` fills up while they are drawn."""

    def __init__(self, chunks: Iterator[np.ndarray], report: SpeechReport, sample_rate: int, comment: str = ""):
        self.report = report
        self.sample_rate = sample_rate
        self.comment = comment  # that goes into files
        self._chunks = chunks
        self._began = time.perf_counter()

    def __next__(self) -> np.ndarray:
        started = time.perf_counter()
        try:
            chunk = next(self._chunks)
        finally:
            self.report.wall_sec += time.perf_counter() - started
        if not self.report.duration_sec:
            self.report.first_audio_sec = time.perf_counter() - self._began
        self.report.duration_sec += len(chunk) / self.sample_rate
        return chunk

    def save(self, out: Path | IO[bytes], on_chunk: Callable[[], object] | None = None) -> SpeechReport:
        """Drains the stream into a file, which is not written if there is nothing to say.

        Args:
            out: a path that ends in .wav, .flac, .opus or .mp3; or an open file, such as a pipe, that gets a WAV at once.
            on_chunk: called after each chunk.

        Raises:
            VoicegraftError: the place cannot be written (before anything is made), or the disk is full.
        """
        if isinstance(out, Path) and not out.parent.is_dir():
            raise VoicegraftError(f"the folder {out.parent} does not exist; make it or name another")
        # A wrong suffix shows before anything is spoken.
        writer = (
            AudioWriter(out, self.sample_rate, self.comment)
            if isinstance(out, Path)
            else WavPipe(out, self.sample_rate)
        )
        first = next(self, None)
        if first is not None:
            with writer:
                writer.write(first)
                for chunk in self:
                    writer.write(chunk)
                    if on_chunk is not None:
                        on_chunk()
        return self.report


class AnswerStream(SpeechStream):
    """The sound of an answer that is written while it is spoken; ``report`` and ``writing`` fill up.

    The first sentence sounds before the second is written. ``report.status`` is empty where the answer has no word; then
    ``text`` is all there is.
    """

    def __init__(
        self, chunks: Iterator[np.ndarray], report: SpeechReport, sample_rate: int, comment: str, writing: Writing
    ):
        super().__init__(chunks, report, sample_rate, comment)
        self._writing = writing

    @property
    def text(self) -> str:
        """What has been written so far."""
        return self._writing.text

    @property
    def writing(self) -> WritingReport:
        return self._writing.report

    @property
    def warnings(self) -> list[str]:
        """What a reader and listener should know, a line each."""
        found = [*self.writing.warnings, *self.report.warnings]
        if self.report.status == "empty" and self.text:
            found.append("the answer has nothing to say aloud: no speech was made")
        return found
