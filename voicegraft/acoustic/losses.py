"""Distances between waveforms that training listens to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SpectralLoss(nn.Module):
    """Multi-resolution STFT loss (Yamamoto et al. 2020, arXiv 1910.11480): log-magnitude L1 and spectral convergence.

    The shortest window is shorter than a pitch period: it hears the pulses, which is all the phase that such a loss can.
    """

    def __init__(self, window_lengths: Sequence[int] = (2048, 1024, 512, 192)):
        super().__init__()
        self.window_lengths = tuple(window_lengths)
        for length in self.window_lengths:
            self.register_buffer(f"window_{length}", torch.hann_window(length), persistent=False)

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        """Waveforms ``[B, T]`` both -> scalar, averaged over the resolutions."""
        total = made.new_zeros(())
        for length in self.window_lengths:
            a, b = (self._magnitudes(x, length) for x in (made, real))
            convergence = (a - b).norm(dim=(1, 2)) / b.norm(dim=(1, 2)).clamp(min=1e-3)
            total = total + (torch.log(a) - torch.log(b)).abs().mean() + 0.5 * convergence.mean()
        return total / len(self.window_lengths)

    def _magnitudes(self, x: Tensor, length: int) -> Tensor:
        window = getattr(self, f"window_{length}")
        spectrum = torch.stft(x.float(), length, length // 4, window=window, center=False, return_complex=True)
        return (spectrum.real.square() + spectrum.imag.square() + 1e-7).sqrt()
