"""What readers take down of speech, and of sound in which nobody says anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from voicegraft.core.ledger import Ledger, Row
from voicegraft.core.messages import Waveform
from voicegraft.evaluation.listening.behaviour import KEYS
from voicegraft.evaluation.listening.clips import Spoken
from voicegraft.evaluation.metrics.rates import word_edits
from voicegraft.fusion.text_lm import TextLM

WHISPER, LISTEN, CONNECTOR = "Whisper's decoder", "voicegraft listen", "connector's reading"
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
    name: str, reader: Reader, clips: Iterable[Spoken], ledger: Ledger, normalize: Callable[[str], str]
) -> list[Row]:
    return [heard(name, reader, clip, ledger, normalize) for clip in clips]


def connector_reader(lm: TextLM) -> Reader | None:
    """What the connector itself reads, without the LLM; None for kinds that cannot tell."""
    if lm.hearing is None or not lm.hearing.connector.READS:
        return None
    hearing, tokenizer = lm.hearing, lm.tokenizer
    return lambda waveform: hearing.read(waveform, tokenizer) or ""
