"""Word times beside the sound: JSON, SubRip (.srt) or WebVTT (.vtt), written while the sound is."""

from __future__ import annotations

import html
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

from voicegraft.core.errors import VoicegraftError
from voicegraft.inference.report import SpeechReport, SpokenSentence

SUFFIXES = (".json", ".srt", ".vtt")
LINE_CHARS = 42  # of a caption; two lines and six seconds are what people read in comfort
CUE_CHARS = 2 * LINE_CHARS
CUE_SEC = 6.0
Closing = Callable[[SpeechReport], None]


class TimestampWriter(AbstractContextManager["TimestampWriter"]):
    """Takes sentences as they are said (``Speaker.stream(on_spoken=writer.add)``); memory does not grow with them.

    The file is there when it is complete; after an error there is none.
    """

    def __init__(self, out: Path, about: dict[str, Any] | None = None):
        """
        Args:
            about: what the JSON says of the sound, such as its file.

        Raises:
            VoicegraftError: another suffix, or a place that cannot be written.
        """
        self.out, self.kind = out, out.suffix.lower()
        if self.kind not in SUFFIXES:
            raise VoicegraftError(
                f"timestamps are written to a file that ends in {', '.join(SUFFIXES)}, got {out.name}"
            )
        self._part = out.with_name(f".{out.name}.part")
        try:
            self._file: IO[str] = self._part.open("w", encoding="utf-8")
        except OSError as error:
            raise VoicegraftError(f"cannot write timestamps to {out}: {error.strerror}; name another file") from error
        self._num_sentences = self._num_cues = 0
        if self.kind == ".json":
            head = json.dumps(about or {}, ensure_ascii=False)[:-1]
            self._file.write(f'{head}{", " if about else ""}"sentences": [')
        elif self.kind == ".vtt":
            self._file.write("WEBVTT\n\n")

    def add(self, sentence: SpokenSentence) -> None:
        """Writes one sentence."""
        if self.kind == ".json":
            self._file.write(",\n" if self._num_sentences else "\n")
            self._file.write(json.dumps(as_json(sentence), ensure_ascii=False))
        else:
            for text, start_sec, end_sec in cues(sentence):
                self._num_cues += 1
                shown = html.escape(text, quote=False) if self.kind == ".vtt" else text
                times = f"{_clock(start_sec, self.kind)} --> {_clock(end_sec, self.kind)}"
                self._file.write(f"{self._num_cues}\n{times}\n{shown}\n\n")
        self._num_sentences += 1

    def close(self, report: SpeechReport | None = None) -> None:
        """Ends the file; the JSON gets what became of the whole."""
        if self._file.closed:
            return
        if self.kind == ".json":
            ending = {} if report is None else {
                "duration_sec": round(report.duration_sec, 3),
                "status": report.status,
                "num_words": report.num_words,
                "skipped": report.skipped,
            }  # fmt: skip
            fields = "".join(f", {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in ending.items())
            self._file.write(f"\n]{fields}}}\n")
        self._file.close()
        os.replace(self._part, self.out)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self.close()
        elif not self._file.closed:
            self._file.close()
            self._part.unlink(missing_ok=True)


@contextmanager
def timestamps_beside(sound: Path, out: Path | None) -> Iterator[tuple[Callable[[SpokenSentence], None], Closing]]:
    """What takes the sentences of a sound for its file of word times, and what ends it; without a file, nobody.

    Raises:
        VoicegraftError: as ``TimestampWriter``.
    """
    if out is None:
        yield lambda sentence: None, lambda report: None
        return
    with TimestampWriter(out, {"audio": sound.name}) as writer:
        yield writer.add, writer.close


def as_json(sentence: SpokenSentence) -> dict[str, Any]:
    """One sentence as JSON values; times in seconds from the beginning of the sound."""
    return {
        "written": sentence.written,
        "spoken": sentence.spoken,
        "start_sec": round(sentence.start_sec, 3),
        "end_sec": round(sentence.end_sec, 3),
        "status": sentence.status,
        "faults": [fault.kind for fault in sentence.faults],
        "retries": sentence.num_retries,
        "words": [
            {
                "word": word.word,
                "written": sentence.written[slice(*word.span)],
                "start_sec": word.start_sec,
                "end_sec": word.end_sec,
            }
            for word in sentence.words
        ],
    }


def cues(sentence: SpokenSentence) -> Iterator[tuple[str, float, float]]:
    """Captions of one sentence as it is written: text of one or two lines, start and end in seconds.

    A long sentence is cut into captions of about the same duration; what is written as one word stays together.
    """
    words, written = sentence.words, sentence.written
    if not words:
        return
    began, took_sec = words[0].start_sec, words[-1].end_sec - words[0].start_sec
    count = max(math.ceil(len(written) / CUE_CHARS), math.ceil(took_sec / CUE_SEC))
    first = 0
    for n in range(1, len(words) + 1):
        if n < len(words):
            numbers = [int(count * (word.start_sec - began) / took_sec) for word in (words[first], words[n])]
            if numbers[0] == numbers[1] or words[n].span[0] <= words[n - 1].span[0]:
                continue
        begin = words[first].span[0] if first else 0
        end = words[n].span[0] if n < len(words) else len(written)
        yield _lines(" ".join(written[begin:end].split())), words[first].start_sec, words[n - 1].end_sec
        first = n


def _lines(text: str) -> str:
    """Two lines of about the same length where one is too long."""
    if len(text) <= LINE_CHARS:
        return text
    spaces = [place for place, char in enumerate(text) if char == " "]
    if not spaces:
        return text
    middle = min(spaces, key=lambda place: abs(place - len(text) / 2))
    return f"{text[:middle]}\n{text[middle + 1 :]}"


def _clock(sec: float, kind: str) -> str:
    milliseconds = round(sec * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    point = "," if kind == ".srt" else "."
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
