"""Loudness and silence: recordings come at any level and with any amount of silence around them."""

from __future__ import annotations

import numpy as np


def _frame_rms(samples: np.ndarray, frame: int) -> np.ndarray:
    usable = len(samples) // frame * frame
    return np.sqrt(np.mean(samples[:usable].reshape(-1, frame) ** 2, axis=1) + 1e-12)


def active_rms(samples: np.ndarray, sample_rate: int) -> float:
    """RMS of the active 20 ms frames (within 40 dB of the loudest) of ``[T]``; 0 where nothing is to be heard."""
    levels = _frame_rms(samples, sample_rate // 50)
    if not len(levels) or levels.max() < 1e-5:
        return 0.0
    return float(np.sqrt(np.mean(levels[levels > 0.01 * levels.max()] ** 2)))


def normalise_level(samples: np.ndarray, sample_rate: int, rms: float = 0.08, peak: float = 0.95) -> np.ndarray:
    """Scales ``[T]`` so that its active frames (see ``active_rms``) have this RMS, without clipping."""
    present = active_rms(samples, sample_rate)
    if not present:
        return samples
    return (samples * min(rms / present, peak / float(np.abs(samples).max()))).astype(np.float32)


def levelled_pcm(samples: np.ndarray, sample_rate: int, frame: int) -> np.ndarray:
    """``[T]`` at a common level as int16, cut to a whole number of frames (of ``frame`` samples)."""
    whole = len(samples) // frame * frame
    return np.round(normalise_level(samples[:whole], sample_rate) * 32767).astype(np.int16)


def loud_frames(samples: np.ndarray, sample_rate: int, below_db: float = 38.0) -> np.ndarray:
    """Which 20 ms frames of ``[T]`` are not silence, bool: less than ``below_db`` under the 95th percentile of levels."""
    levels = _frame_rms(samples, sample_rate // 50)
    if not len(levels):
        return np.zeros(0, bool)
    return levels > np.percentile(levels, 95) * 10 ** (-below_db / 20)


def trim_silence(samples: np.ndarray, sample_rate: int, keep_sec: float = 0.1, below_db: float = 38.0) -> np.ndarray:
    """Cuts the silence (see ``loud_frames``) at both ends of ``[T]`` down to ``keep_sec`` seconds."""
    first, last = speech_span(samples, sample_rate, keep_sec, below_db)
    return samples[first:last]


def speech_span(
    samples: np.ndarray, sample_rate: int, keep_sec: float = 0.1, below_db: float = 38.0
) -> tuple[int, int]:
    """First sample, and the one after the last, of what ``trim_silence`` keeps of ``[T]``."""
    frame = sample_rate // 50
    loud = np.flatnonzero(loud_frames(samples, sample_rate, below_db))
    if not len(loud):
        return 0, len(samples)
    keep = round(keep_sec * sample_rate)
    return max(0, int(loud[0]) * frame - keep), min(len(samples), (int(loud[-1]) + 1) * frame + keep)
