"""Measures of speech as pure functions over strings, numbers and samples; no model is involved."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.packages import need

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


# Tops and bottoms of a ratio of sums, item by item, both float [N]; a mean is the ratio whose bottoms are all 1.
Sums = tuple[np.ndarray, np.ndarray]


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
    return _edits(need("jiwer").process_words(reference, hypothesis))


def char_edits(reference: str, hypothesis: str, normalize: Callable[[str], str] = normalize_transcript) -> EditCounts:
    """Character edits (spaces count as characters) between two texts, both normalised first."""
    reference, hypothesis = normalize(reference), normalize(hypothesis)
    if not reference:
        return EditCounts(len(hypothesis), 0)
    return _edits(need("jiwer").process_characters(reference, hypothesis))


def align_words(reference: str, hypothesis: str) -> list[tuple[str, str]]:
    """Words of two transcripts, normalised alike, side by side; "" stands where one of them has no word."""
    said, heard = reference.split(), hypothesis.split()
    if not said:
        return [("", word) for word in heard]
    pairs: list[tuple[str, str]] = []
    for part in need("jiwer").process_words(reference, hypothesis).alignments[0]:
        left, right = said[part.ref_start_idx : part.ref_end_idx], heard[part.hyp_start_idx : part.hyp_end_idx]
        pairs += zip_longest(left, right, fillvalue="")
    return pairs


def _edits(alignment: Any) -> EditCounts:
    kept = alignment.hits + alignment.substitutions + alignment.deletions
    return EditCounts(alignment.substitutions + alignment.deletions + alignment.insertions, kept)


def bootstrap_ratio(tops: Sequence[float] | np.ndarray, bottoms: Sequence[float] | np.ndarray) -> Estimate:
    """sum(tops) / sum(bottoms) with a percentile bootstrap interval over items.

    Whole items are drawn with replacement, so that a clip's words stay together (Bisani and Ney, "Bootstrap
    estimates for confidence intervals in ASR performance evaluation", ICASSP 2004).
    Raises VoicegraftError if the lists are empty, unequal in length, or the bottoms sum to 0.
    """
    top, bottom = sums = np.asarray(tops, float), np.asarray(bottoms, float)
    if top.shape != bottom.shape or top.ndim != 1 or not top.size or bottom.sum() <= 0:
        raise VoicegraftError(
            "a ratio over items needs as many numerators as denominators, at least one, and denominators "
            f"with a positive sum; got {top.size} and {bottom.size} with sum {bottom.sum():g}"
        )
    return percentile_interval(ratio(sums), _draws(sums, np.random.default_rng(0)))


def bootstrap_mean(values: Sequence[float]) -> Estimate:
    """The mean of `values` with its bootstrap interval."""
    return bootstrap_ratio(values, np.ones(len(values)))


def bootstrap_difference(a: Sums, b: Sums, paired: bool = False) -> Estimate:
    """Ratio of b minus ratio of a, with a percentile bootstrap interval over items.

    Items of both that are the same are `paired`: both get the same draw. Otherwise each is drawn from itself.
    """
    draw = np.random.default_rng(0)
    drawn = _draws(a, draw)
    return percentile_interval(ratio(b) - ratio(a), _draws(b, np.random.default_rng(0) if paired else draw) - drawn)


def ratio(sums: Sums) -> float:
    return float(sums[0].sum() / sums[1].sum())


def _draws(sums: Sums, draw: np.random.Generator, num_resamples: int = 2000) -> np.ndarray:
    """Ratios of as many items, drawn with replacement, [R]; NaN where a draw has nothing to divide by."""
    picks = draw.integers(0, len(sums[0]), size=(num_resamples, len(sums[0])))
    tops, bottoms = (part[picks].sum(axis=1) for part in sums)
    return np.divide(tops, bottoms, out=np.full(num_resamples, np.nan), where=bottoms > 0)


def percentile_interval(value: float, drawn: np.ndarray) -> Estimate:
    """The value with the interval that holds 95 % of what was drawn [R]; NaNs do not count."""
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high))


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
