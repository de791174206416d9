"""Measures of speech as pure functions over strings, numbers and samples; no model is involved."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from types import ModuleType
from typing import Any

import numpy as np

from voicegraft.core.errors import VoicegraftError

_APOSTROPHES = "'\u2018\u2019\u02bc\u0060\u00b4"


@dataclass(frozen=True)
class EditCounts:
    """Edits that turn a hypothesis into its reference, and the reference's length (words or characters)."""

    errors: int
    length: int

    @property
    def rate(self) -> float:
        """errors / length; above 1 when more was inserted than the reference holds."""
        return self.errors / max(self.length, 1)


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its confidence interval."""

    value: float
    low: float
    high: float


def normalize_transcript(text: str) -> str:
    """NFKC, lower case, no punctuation, single spaces: the form in which transcripts are compared.

    Apostrophes vanish ("it's" -> "its"); any other sign separates words ("well-known" -> "well known").
    """
    kept = []
    for char in unicodedata.normalize("NFKC", text).lower():
        if char in _APOSTROPHES:
            continue
        kept.append(char if char.isalnum() or unicodedata.category(char).startswith("M") else " ")
    return " ".join("".join(kept).split())


def word_edits(reference: str, hypothesis: str, normalize: Callable[[str], str] = normalize_transcript) -> EditCounts:
    """Word edits between two texts, both normalised first; WER is the sum of errors / the sum of lengths."""
    reference, hypothesis = normalize(reference), normalize(hypothesis)
    if not reference:
        return EditCounts(len(hypothesis.split()), 0)
    return _edits(_jiwer().process_words(reference, hypothesis))


def char_edits(reference: str, hypothesis: str, normalize: Callable[[str], str] = normalize_transcript) -> EditCounts:
    """Character edits (spaces count as characters) between two texts, both normalised first."""
    reference, hypothesis = normalize(reference), normalize(hypothesis)
    if not reference:
        return EditCounts(len(hypothesis), 0)
    return _edits(_jiwer().process_characters(reference, hypothesis))


def align_words(reference: str, hypothesis: str) -> list[tuple[str, str]]:
    """Words of two transcripts, normalised alike, side by side; "" stands where one of them has no word."""
    said, heard = reference.split(), hypothesis.split()
    if not said:
        return [("", word) for word in heard]
    pairs: list[tuple[str, str]] = []
    for part in _jiwer().process_words(reference, hypothesis).alignments[0]:
        left, right = said[part.ref_start_idx : part.ref_end_idx], heard[part.hyp_start_idx : part.hyp_end_idx]
        pairs += zip_longest(left, right, fillvalue="")
    return pairs


def _edits(alignment: Any) -> EditCounts:
    kept = alignment.hits + alignment.substitutions + alignment.deletions
    return EditCounts(alignment.substitutions + alignment.deletions + alignment.insertions, kept)


def _jiwer() -> ModuleType:
    try:
        import jiwer
    except ImportError as error:
        raise VoicegraftError(
            "counting word errors needs the package jiwer, which is not installed; "
            "run: pip install voicegraft[evaluate]"
        ) from error
    return jiwer


def bootstrap_ratio(
    numerators: Sequence[float],
    denominators: Sequence[float],
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """sum(numerators) / sum(denominators) with a percentile bootstrap interval over items.

    Whole items are drawn with replacement, so that a clip's words stay together (Bisani and Ney, "Bootstrap
    estimates for confidence intervals in ASR performance evaluation", ICASSP 2004).
    Raises VoicegraftError if the lists are empty, unequal in length, or the denominators sum to 0.
    """
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    if top.shape != bottom.shape or top.ndim != 1 or not top.size or bottom.sum() <= 0:
        raise VoicegraftError(
            "a ratio over items needs as many numerators as denominators, at least one, and denominators "
            f"with a positive sum; got {top.size} and {bottom.size} with sum {bottom.sum():g}"
        )
    picks = np.random.default_rng(seed).integers(0, top.size, size=(num_resamples, top.size))
    sums = bottom[picks].sum(axis=1)
    ratios = top[picks].sum(axis=1)[sums > 0] / sums[sums > 0]
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return Estimate(float(top.sum() / bottom.sum()), float(low), float(high))


def bootstrap_mean(values: Sequence[float], **options: Any) -> Estimate:
    """The mean of `values` with its bootstrap interval; options as of `bootstrap_ratio`."""
    return bootstrap_ratio(values, [1.0] * len(values), **options)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two vectors [D]; 0 if one of them is zero."""
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.dot(a, b)) / scale if scale else 0.0


def spoken_sec(samples: np.ndarray, sample_rate: int, floor_db: float = -40.0) -> float:
    """Seconds from the first to the last sound in `samples` [T]; pauses in between count, 0.0 for silence.

    A 10 ms frame is sound when its level is within `floor_db` of the loudest frame's.
    """
    width = max(sample_rate // 100, 1)
    num_frames = len(samples) // width
    if num_frames == 0:
        return 0.0
    frames = np.asarray(samples[: num_frames * width], np.float64).reshape(num_frames, width)
    level = np.sqrt((frames**2).mean(axis=1))
    if level.max() < 1e-5:
        return 0.0
    loud = np.flatnonzero(level >= level.max() * 10 ** (floor_db / 20))
    return float((loud[-1] - loud[0] + 1) * width / sample_rate)


def duration_budget_sec(text: str, base_sec: float = 2.0, sec_per_char: float = 0.2) -> float:
    """The longest that `text` may take to say before it counts as run away.

    English is read at 12 to 17 characters per second, so the default leaves about threefold room.
    """
    return base_sec + sec_per_char * len(normalize_transcript(text))
