"""Log-mel spectrograms whose frames tile the signal exactly: frame ``i`` is centred on samples ``[i * hop, (i + 1) * hop)``.

The mel scale is Slaney's (linear below 1 kHz) and filters have unit area, as in the HiFi-GAN family.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class MelConfig:
    sample_rate: int = 24_000  # Hz
    num_fft: int = 1024  # samples
    hop: int = 240  # samples between frames
    num_mels: int = 80  # bands
    low_hz: float = 0.0  # Hz
    high_hz: float = 8_000.0  # Hz

    @property
    def key(self) -> str:
        """Names the features in files that hold them."""
        c = self
        return f"mel-{c.sample_rate}-{c.num_fft}-{c.hop}-{c.num_mels}-{c.low_hz:g}-{c.high_hz:g}"


def _hz_to_mel(hz: float) -> float:
    return hz * 3 / 200 if hz < 1000 else 15 + math.log(hz / 1000) * 27 / math.log(6.4)


def _mel_to_hz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp((mel - 15) * math.log(6.4) / 27))


def mel_filterbank(config: MelConfig) -> Tensor:
    """Triangular filters ``[num_mels, num_fft // 2 + 1]`` of unit area (Slaney, Auditory Toolbox, 1998)."""
    low, high = _hz_to_mel(config.low_hz), _hz_to_mel(config.high_hz)
    edges = _mel_to_hz(torch.linspace(low, high, config.num_mels + 2))
    bins = torch.linspace(0, config.sample_rate / 2, config.num_fft // 2 + 1)
    rising = (bins[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None]) / (edges[2:] - edges[1:-1])[:, None]
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return triangles * (2 / (edges[2:] - edges[:-2]))[:, None]


class LogMel(nn.Module):
    """Waveform ``[..., T]`` -> natural-log mel magnitudes ``[..., num_mels, T // hop]``."""

    window: Tensor
    filters: Tensor

    def __init__(self, config: MelConfig):
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(config.num_fft), persistent=False)
        self.register_buffer("filters", mel_filterbank(config), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        c = self.config
        lead = samples.shape[:-1]
        flat = samples.reshape(-1, samples.shape[-1]).float()
        side = c.num_fft - c.hop
        padded = nn.functional.pad(flat, (side // 2, side - side // 2))
        spectrum = torch.stft(padded, c.num_fft, c.hop, window=self.window, center=False, return_complex=True)
        mel = self.filters @ spectrum.abs()
        return torch.log(mel.clamp(min=1e-5)).reshape(*lead, c.num_mels, -1)
