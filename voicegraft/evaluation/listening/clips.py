"""Speech with its true text, of any layout, and sound in which nobody says anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Waveform
from voicegraft.data.checks import Limits, examine
from voicegraft.data.sources.detect import open_source
from voicegraft.data.sources.record import Record
from voicegraft.data.splits import SMALLEST, Splits, hash_share, text_key

RATE = 16_000  # Hz
_LIMITS = Limits(min_sec=0.3)  # a short answer is speech too
_LOUDNESS = (0.003, 0.03)  # RMS of noises, full scale is 1: about -50 and -30 dB


@dataclass(frozen=True, eq=False)
class Spoken:
    """One clip; levelled and trimmed as training has its own."""

    corpus: str
    id: str
    text: str  # "" where nobody says anything
    waveform: Waveform = field(repr=False)


def read_clips(corpus: Path, whole: bool = False, limit: int | None = None, name: str = "") -> list[Spoken]:
    """Clips of a corpus in an order that its size does not change, those alone that ``voicegraft prepare`` holds back.

    Args:
        whole: all of them: of a corpus that nothing was trained on.

    Raises:
        VoicegraftError: there is no corpus, or nothing in it that may be used.
    """
    source = open_source(str(corpus))
    records, splits = list(source.records()), Splits(SMALLEST)
    for record in records:
        splits.see(record.text, record.split)
    records = [record for record in records if whole or splits(record.text, record.split) != "train"]
    clips: list[Spoken] = []
    for record in sorted(records, key=lambda one: hash_share(f"{text_key(one.text)} {one.id}")):
        if limit is not None and len(clips) == limit:
            break
        clips += _examined(record, name or source.name)
    if not clips:
        kind = "recordings with their text" if whole else "recordings that are held back from training"
        raise VoicegraftError(f"expected {kind} in {corpus}, found none")
    return clips


def _examined(record: Record, corpus: str) -> Iterator[Spoken]:
    audio = record.audio if isinstance(record.audio, Path) else record.audio()
    found = examine(record, audio, False, RATE, _LIMITS)
    if found.samples is not None:
        samples = (found.samples / 32768).astype(np.float32)
        yield Spoken(corpus, record.id, found.facts["text"], Waveform(samples, RATE))


def unspoken(count: int, seed: int = 0) -> list[Spoken]:
    """Silence, white and brown noise, hum, and chords, of 0.5 to 8 s: in none of it does anybody say anything."""
    kinds = {"silence": _silence, "white noise": _white, "brown noise": _brown, "hum": _hum, "music": _chords}
    made = []
    for number in range(count):
        draw = np.random.default_rng((seed, number))
        name = list(kinds)[number % len(kinds)]
        sound = kinds[name](draw, round(RATE * draw.uniform(0.5, 8.0)))
        level = np.sqrt(np.mean(np.square(sound)))
        samples = sound * (np.exp(draw.uniform(*np.log(_LOUDNESS))) / level if level else 1.0)
        made.append(Spoken(name, f"{number:03d}", "", Waveform(samples.astype(np.float32), RATE)))
    return made


def _silence(draw: np.random.Generator, length: int) -> np.ndarray:
    return np.zeros(length)


def _white(draw: np.random.Generator, length: int) -> np.ndarray:
    return draw.standard_normal(length)


def _brown(draw: np.random.Generator, length: int) -> np.ndarray:
    spectrum = np.fft.rfft(draw.standard_normal(length))
    return np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 20 * length / RATE), length)


def _hum(draw: np.random.Generator, length: int) -> np.ndarray:
    time, base = np.arange(length) / RATE, draw.choice([50.0, 60.0])
    return np.sum([np.sin(2 * np.pi * base * k * time) / k for k in range(1, 8)], axis=0)


def _chords(draw: np.random.Generator, length: int) -> np.ndarray:
    """A chord every 0.4 s, each of three tones with overtones that fade."""
    beat, sound = round(0.4 * RATE), np.zeros(length)
    for start in range(0, length, beat):
        time = np.arange(min(beat, length - start)) / RATE
        root = 220 * 2 ** (draw.integers(0, 12) / 12)
        for step in (0, 4, 7):
            tone = root * 2 ** (step / 12)
            sound[start : start + beat] += sum(np.sin(2 * np.pi * tone * k * time) / k for k in (1, 2, 3)) * np.exp(
                -4 * time
            )
    return sound
