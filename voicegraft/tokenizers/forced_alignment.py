"""Forced alignment: the most likely times of a known unit string under per-frame phone probabilities (Viterbi)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def force_align(log_probs: np.ndarray, classes: Sequence[int], skippable: Sequence[bool]) -> np.ndarray | None:
    """Number of frames of each unit.

    Args:
        log_probs: ``[T, C]`` per frame and class.
        classes: class of each unit ``[S]``.
        skippable: ``[S]``; such a unit may last zero frames (two neighbours may not both be skippable), every other
            one lasts at least one.

    Returns:
        Frame counts ``[S]`` summing to T, or None when the frames are too few.
    """
    num_frames, num_units = len(log_probs), len(classes)
    skip = np.asarray(skippable, dtype=bool)
    if num_frames < num_units - skip.sum() or num_units == 0:
        return None
    emit = log_probs[:, np.asarray(classes)]  # [T, S]
    best = np.full(num_units, -np.inf)
    best[0] = emit[0, 0]
    if skip[0] and num_units > 1:
        best[1] = emit[0, 1]
    came = np.zeros((num_frames, num_units), dtype=np.int8)  # units advanced at this frame: 0, 1 or 2
    for t in range(1, num_frames):
        step1 = np.concatenate([[-np.inf], best[:-1]])
        step2 = np.full(num_units, -np.inf)
        step2[2:] = np.where(skip[1:-1], best[:-2], -np.inf)
        options = np.stack([best, step1, step2])
        came[t] = options.argmax(0)
        best = options.max(0) + emit[t]
    unit = num_units - 1
    if skip[-1] and num_units > 1 and best[-2] > best[-1]:
        unit = num_units - 2
    if not np.isfinite(best[unit]):
        return None
    counts = np.zeros(num_units, dtype=np.int64)
    for t in range(num_frames - 1, -1, -1):
        counts[unit] += 1
        unit -= int(came[t, unit]) if t else 0
    return counts
