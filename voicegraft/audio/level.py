"""Loudness and silence: recordings come at any level and with any amount of silence around them."""

from __future__ import annotations

import numpy as np


def _frame_rms(samples: np.ndarray, frame: int) -> np.ndarray:
    usable = len(samples) // frame * frame
    return np.sqrt(np.mean(samples[:usable].reshape(-1, frame) ** 2, axis=1) + 1e-12)


def normalise_level(samples: np.ndarray, sample_rate: int, rms: float = 0.08, peak: float = 0.95) -> np.ndarray:
    """Scales ``[T]`` so that its active 20 ms frames (within 40 dB of the loudest) have this RMS, without clipping."""
    levels = _frame_rms(samples, sample_rate // 50)
    if not len(levels) or levels.max() < 1e-5:
        return samples
    active = levels[levels > 0.01 * levels.max()]
    gain = rms / float(np.sqrt(np.mean(active**2)))
    return (samples * min(gain, peak / float(np.abs(samples).max()))).astype(np.float32)


def trim_silence(samples: np.ndarray, sample_rate: int, keep_sec: float = 0.1, below_db: float = 38.0) -> np.ndarray:
    """Cuts the silence at both ends of ``[T]`` down to ``keep_sec`` seconds.

    Silence is what lies ``below_db`` under the 95th percentile of the 20 ms frame levels.
    """
    frame = sample_rate // 50
    levels = _frame_rms(samples, frame)
    if not len(levels):
        return samples
    loud = np.flatnonzero(levels > np.percentile(levels, 95) * 10 ** (-below_db / 20))
    if not len(loud):
        return samples
    keep = round(keep_sec * sample_rate)
    return samples[max(0, loud[0] * frame - keep) : (loud[-1] + 1) * frame + keep]
