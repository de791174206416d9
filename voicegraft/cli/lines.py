"""What became of many lines that were spoken into files: ``report.jsonl``, one row a line, kept over interruptions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voicegraft.core.files import write_text
from voicegraft.core.ledger import Ledger
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
        self._ledger = Ledger(self.path, keys=("file", "text"))

    def earlier(self, file: str, text: str) -> dict[str, Any] | None:
        """The row of an earlier run for the same request, where its file is there."""
        row = self._ledger.rows.get((file, text), {})
        return row if row.get("request") == self.request and (self.path.parent / file).is_file() else None

    def add(self, file: str, text: str, report: SpeechReport, sentences: Sequence[SpokenSentence]) -> dict[str, Any]:
        row = {
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
        self._ledger.add(row)
        return row

    def finish(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The file holds these rows, in their order, and nothing of earlier requests any more."""
        write_text(self.path, "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
