"""What readers take down of speech, and of sound in which nobody says anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial

import torch
from transformers import PreTrainedTokenizerBase

from voicegraft.audio.io import resampled
from voicegraft.core.ledger import Ledger, Row
from voicegraft.core.messages import Waveform
from voicegraft.evaluation.listening.behaviour import KEYS
from voicegraft.evaluation.listening.clips import Spoken
from voicegraft.evaluation.metrics.rates import word_edits
from voicegraft.fusion.connectors.aligned import Aligned
from voicegraft.fusion.listening import Hearing
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
    if lm.hearing is None or not isinstance(lm.hearing.connector, Aligned):
        return None
    return partial(_read, lm.hearing, lm.hearing.connector, lm.tokenizer)


def _read(hearing: Hearing, connector: Aligned, tokenizer: PreTrainedTokenizerBase, waveform: Waveform) -> str:
    samples = resampled(waveform.samples, waveform.sample_rate, hearing.ears.sample_rate)
    frames = hearing.ears([torch.from_numpy(samples)])[0].frames
    (tokens,) = connector.read(frames[None], torch.tensor([len(frames)], device=frames.device))
    return str(tokenizer.decode(tokens))
