"""What readers take down of speech, and of sound in which nobody says anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from voicegraft.core.ledger import Ledger, Row
from voicegraft.core.messages import Waveform
from voicegraft.evaluation.listening.behaviour import KEYS
from voicegraft.evaluation.listening.clips import Spoken
from voicegraft.evaluation.metrics.rates import word_edits

WHISPER, CONNECTOR = "Whisper's decoder", "connector's reading"
Reader = Callable[[Waveform], str]


def heard(name: str, reader: Reader, clip: Spoken, ledger: Ledger, normalize: Callable[[str], str]) -> Row:
    """The row of one clip, made if the ledger lacks it; ``wall_sec`` is how long the reader took."""
    key = (name, clip.corpus, clip.id, "", "")
    if key not in ledger.rows:
        start = time.perf_counter()
        text = reader(clip.waveform).strip()
        wall_sec = time.perf_counter() - start
        edits = word_edits(clip.text, text, normalize)
        row = {**dict(zip(KEYS, key, strict=True)), "heard": text, "text": clip.text, "wall_sec": wall_sec}
        ledger.add(row | {"word_errors": edits.errors, "num_words": edits.length})
    return ledger.rows[key]


def all_heard(
    readers: Mapping[str, Reader], clips: Iterable[Spoken], ledger: Ledger, normalize: Callable[[str], str]
) -> list[Row]:
    return [heard(name, reader, clip, ledger, normalize) for clip in clips for name, reader in readers.items()]
