"""What became of many lines that were spoken into files: ``report.jsonl``, one row a line, kept over interruptions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from voicegraft.core.errors import VoicegraftError
from voicegraft.inference.report import SpeechReport, SpokenSentence


class LineReports:
    """The rows of a folder; those of an earlier run for the same request are known."""

    def __init__(self, folder: Path, request: Mapping[str, Any]):
        """
        Args:
            request: what the sound depends on besides the text.

        Raises:
            VoicegraftError: the folder cannot be written.
        """
        self.path = folder / "report.jsonl"
        self.request = dict(request)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._earlier = self._finished()
            self._file = self.path.open("w", encoding="utf-8")
        except OSError as error:
            raise VoicegraftError(f"cannot write to {folder}: {error.strerror}; give another --out-dir") from error

    def __enter__(self) -> LineReports:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def earlier(self, file: str, text: str) -> dict[str, Any] | None:
        """The row of an earlier run."""
        return self._earlier.get((file, text))

    def row(self, file: str, text: str, report: SpeechReport, sentences: Sequence[SpokenSentence]) -> dict[str, Any]:
        return {
            "file": file,
            "text": text,
            "spoken_text": " ".join(sentence.spoken for sentence in sentences),
            "audio_sec": round(report.duration_sec, 3),
            "wall_sec": round(report.wall_sec, 3),
            "first_audio_sec": round(report.first_audio_sec, 3),
            "status": report.status,
            "skipped": report.skipped,
            "faults": [fault.kind for sentence in sentences for fault in sentence.faults],
            "retries": report.num_retries,
            "request": self.request,
        }

    def write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()

    def _finished(self) -> dict[tuple[str, str], dict[str, Any]]:
        """(file, text) -> row, for the same request and where the file is there."""
        rows = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else ():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # a killed run left half a line
            if row["request"] == self.request and (self.path.parent / row["file"]).is_file():
                rows[row["file"], row["text"]] = row
        return rows
