"""Melody and pauses of a clip, by signal processing alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from voicegraft.audio.pitch import track_pitch

FRAME_RATE = 100  # Hz; both measures look at frames of 10 ms
SILENT_DB = -30.0  # a frame is silent this far below the clip's loud frames (the 95th percentile of levels)
MIN_PAUSE_SEC = 0.15  # the closure of a stop consonant is silent too, and shorter


@dataclass(frozen=True)
class Pitch:
    """The melody of a clip; None where no frame has a pitch."""

    median_hz: float | None
    iqr_semitones: float | None  # between the quartiles: how lively the melody is
    voiced_share: float  # of the frames from the first to the last sound


def measure_pitch(samples: np.ndarray, sample_rate: int) -> Pitch:
    """Pitch of samples [T] between 60 and 400 Hz (`audio.pitch.track_pitch`)."""
    import torch

    inside = _inside(samples, sample_rate)
    hop = sample_rate // FRAME_RATE
    if len(inside) < hop:
        return Pitch(None, None, 0.0)
    log_pitch = track_pitch(torch.from_numpy(np.ascontiguousarray(inside, np.float32)), sample_rate, hop).numpy()
    voiced = log_pitch[~np.isnan(log_pitch)]
    if not len(voiced):
        return Pitch(None, None, 0.0)
    low, middle, high = np.quantile(voiced, [0.25, 0.5, 0.75])
    return Pitch(float(math.exp(middle)), float(12 / math.log(2) * (high - low)), len(voiced) / len(log_pitch))


def measure_pauses(samples: np.ndarray, sample_rate: int) -> list[float]:
    """Durations in seconds of the pauses between the first and the last sound of samples [T].

    A pause is MIN_PAUSE_SEC or more of silent frames. Levels are smoothed over 30 ms, so that the valleys between
    the pulses of a deep voice do not count, nor a click end a pause.
    """
    silent = _levels(samples, sample_rate) < 10 ** (SILENT_DB / 20)
    heard = np.flatnonzero(~silent)
    if not len(heard):
        return []
    inside = silent[heard[0] : heard[-1] + 1].astype(np.int8)
    edges = np.flatnonzero(np.diff(inside))  # starts and ends take turns: the span begins and ends with sound
    lengths = (edges[1::2] - edges[::2]) / FRAME_RATE
    return [round(float(length), 3) for length in lengths if length >= MIN_PAUSE_SEC]


def _levels(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """RMS per 10 ms frame relative to the loud ones, smoothed over three frames, [F]; all 0 for silence."""
    width = sample_rate // FRAME_RATE
    num_frames = len(samples) // width
    frames = np.asarray(samples[: num_frames * width], np.float64).reshape(num_frames, width)
    power = (
        np.convolve((frames**2).mean(axis=1), np.ones(3) / 3, mode="same") if num_frames >= 3 else np.zeros(num_frames)
    )
    loud = np.percentile(power, 95) if num_frames else 0.0
    return np.sqrt(power / loud) if loud > 1e-10 else np.zeros(num_frames)


def _inside(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Samples from the first to the last frame that is not silent."""
    heard = np.flatnonzero(_levels(samples, sample_rate) >= 10 ** (SILENT_DB / 20))
    width = sample_rate // FRAME_RATE
    return samples[heard[0] * width : (heard[-1] + 1) * width] if len(heard) else samples[:0]
