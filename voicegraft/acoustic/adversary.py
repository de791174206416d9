"""Discriminators for training the vocoder: small 2-D convolutions over complex spectrograms of several resolutions.

After the multi-scale STFT discriminator of EnCodec (arXiv 2210.13438), at a size that a CPU can train. Hinge losses and
feature matching as there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


@dataclass(frozen=True)
class AdversaryConfig:
    window_lengths: tuple[int, ...] = (1536, 768, 384)  # samples, one discriminator each
    channels: int = 16


class SpectrogramDiscriminator(nn.Module):
    window: Tensor

    def __init__(self, window_length: int, channels: int):
        super().__init__()
        self.window_length = window_length
        self.register_buffer("window", torch.hann_window(window_length), persistent=False)
        shapes = [(2, channels, (3, 9), (1, 2)), *[(channels, channels, (3, 9), (1, 2))] * 2]
        shapes += [(channels, 2 * channels, (3, 5), (2, 2)), (2 * channels, 2 * channels, (3, 3), (1, 1))]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(i, o, k, s, padding=(k[0] // 2, k[1] // 2))) for i, o, k, s in shapes
        )
        self.verdict = weight_norm(nn.Conv2d(2 * channels, 1, (3, 3), padding=1))

    def forward(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Waveforms ``[B, T]`` -> (verdict map, high for real, features of every layer)."""
        length = self.window_length
        spectrum = torch.stft(
            samples.float(), length, length // 4, window=self.window, center=False, return_complex=True
        )
        magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-7).sqrt()
        # Compressed like loudness, phase kept: otherwise the loudest partials are all that counts.
        scale = magnitude.pow(-0.7)
        x = torch.stack([spectrum.real * scale, spectrum.imag * scale], 1).mT  # [B, 2, time, frequency]
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
            features.append(x)
        return self.verdict(x), features


class Adversary(nn.Module):
    def __init__(self, config: AdversaryConfig):
        super().__init__()
        self.judges = nn.ModuleList(SpectrogramDiscriminator(n, config.channels) for n in config.window_lengths)

    def own_loss(self, real: Tensor, made: Tensor) -> Tensor:
        """Hinge loss of telling real ``[B, T]`` from made ``[B, T]``; no gradient reaches the maker."""
        total = real.new_zeros(())
        for judge in self.judges:
            verdict, _ = judge(torch.cat([real, made.detach()]))
            of_real, of_made = verdict.float().chunk(2)
            total = total + F.relu(1 - of_real).mean() + F.relu(1 + of_made).mean()
        return total / len(self.judges)

    def makers_loss(self, real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        """(adversarial loss, feature-matching loss) of the maker."""
        fooling, matching = real.new_zeros(()), real.new_zeros(())
        for judge in self.judges:
            with torch.no_grad():
                _, wanted = judge(real)
            verdict, features = judge(made)
            fooling = fooling - verdict.float().mean()
            distances = [
                (have - want).abs().float().mean() / want.abs().float().mean().clamp(min=1e-3)
                for have, want in zip(features, wanted, strict=True)
            ]
            matching = matching + torch.stack(distances).mean()
        return fooling / len(self.judges), matching / len(self.judges)
