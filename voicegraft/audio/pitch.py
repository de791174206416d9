"""Pitch by normalised autocorrelation: enough to teach a tokenizer melody, fast enough for hours of speech."""

from __future__ import annotations

import torch
from torch import Tensor


def track_pitch(
    samples: Tensor,
    sample_rate: int,
    hop: int,
    low_hz: float = 60.0,
    high_hz: float = 400.0,
    voiced_above: float = 0.6,
) -> Tensor:
    """Natural log of the pitch in Hz around samples ``0, hop, 2 hop ...`` of ``[T]`` -> ``[T // hop]``; NaN where unvoiced.

    The autocorrelation of each windowed frame is divided by the window's own (Boersma 1993), and a small bonus for
    short lags keeps octaves apart.
    """
    frame = 1 << (int(3 * sample_rate / low_hz) - 1).bit_length() - 1  # two or more periods of the lowest pitch
    num_frames = samples.shape[-1] // hop
    padded = torch.nn.functional.pad(samples, (frame // 2, frame))
    frames = padded.unfold(-1, frame, hop)[:num_frames]
    frames = frames - frames.mean(-1, keepdim=True)
    window = torch.hann_window(frame)

    def autocorrelation(x: Tensor) -> Tensor:
        r = torch.fft.irfft(torch.fft.rfft(x, 2 * frame).abs() ** 2)[..., :frame]
        return r / r[..., :1].clamp(min=1e-9)

    r = autocorrelation(frames * window) / autocorrelation(window)
    low_lag, high_lag = int(sample_rate / high_hz), int(sample_rate / low_hz)
    lags = torch.arange(low_lag, high_lag)
    bonus = 0.06 * torch.log2(high_lag / lags)
    best = (r[:, low_lag:high_lag] + bonus).argmax(-1)
    strength = r[:, low_lag:high_lag].gather(1, best[:, None])[:, 0]
    level = frames.square().mean(-1).sqrt()
    voiced = (strength > voiced_above) & (level > 0.05 * level.max())
    return torch.where(voiced, torch.log(sample_rate / (best + low_lag).float()), torch.nan)


def relative_pitch(samples: Tensor, sample_rate: int, hop: int) -> Tensor:
    """``track_pitch`` relative to the utterance's median: melody without the speaker's register; at most one either way."""
    log_pitch = track_pitch(samples, sample_rate, hop)
    return (log_pitch - log_pitch.nanmedian()).clamp(-1, 1)
