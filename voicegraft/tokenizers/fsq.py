"""Finite scalar quantisation (Mentzer et al. 2023, arXiv 2309.15505): every dimension rounds to a few levels.

There is no codebook to learn or to collapse; a code is the mixed-radix number of its digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FSQ(nn.Module):
    """Quantises ``[..., len(levels)]``; ``levels`` are odd, so that zero is a level."""

    radix: Tensor
    reach: Tensor

    def __init__(self, levels: Sequence[int]):
        super().__init__()
        if not levels or any(n < 3 or n % 2 == 0 for n in levels):
            raise ValueError(f"FSQ levels must be odd numbers from 3 on, got {tuple(levels)}")
        self.levels = tuple(levels)
        self.vocab_size = math.prod(levels)
        radix = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("radix", torch.tensor(radix), persistent=False)
        self.register_buffer("reach", torch.tensor([n // 2 for n in levels]).float(), persistent=False)

    def forward(self, x: Tensor, noise_share: float = 0.0) -> tuple[Tensor, Tensor]:
        """Real ``[B, T, D]`` -> (quantised in [-1, 1] with straight-through gradients, codes ``[B, T]``).

        ``noise_share`` of the batch rows get uniform noise of one step's width instead of rounding: the first rounds
        of training need smooth gradients, or the encoder settles on a handful of codes.
        """
        bounded = torch.tanh(x.float()) * self.reach
        rounded = torch.round(bounded)
        codes = ((rounded + self.reach).long() * self.radix).sum(-1)
        quantised = bounded + (rounded - bounded).detach()
        if noise_share > 0:
            noisy = bounded + torch.rand_like(bounded) - 0.5
            rows = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) < noise_share
            quantised = torch.where(rows, noisy, quantised)
        return quantised / self.reach, codes

    def digits(self, codes: Tensor) -> Tensor:
        """Codes ``[...]`` -> level numbers ``[..., D]``, each from 0."""
        levels = torch.tensor(self.levels, device=codes.device)
        return codes[..., None] // self.radix % levels

    def perturb(self, codes: Tensor, share: float) -> Tensor:
        """Codes ``[...]`` with this share of their digits off by one: the errors that generation makes, in miniature."""
        digits = self.digits(codes)
        off = torch.randint(0, 2, digits.shape, device=codes.device) * 2 - 1
        off = off * (torch.rand(digits.shape, device=codes.device) < share)
        levels = torch.tensor(self.levels, device=codes.device)
        return ((digits + off).clamp(min=0).minimum(levels - 1) * self.radix).sum(-1)

    def values(self, codes: Tensor) -> Tensor:
        """Codes ``[...]`` -> quantised values ``[..., D]`` in [-1, 1], as ``forward`` returned them."""
        return self.digits(codes) / self.reach - 1


def structured_rows(levels: Sequence[int], width: int, std: float) -> Tensor:
    """Initial embedding rows ``[prod(levels), width]``: the sum of one random vector per digit value.

    Codes that differ in one digit begin as neighbours, which is worth several hundred training steps; the table is an
    ordinary one afterwards.
    """
    fsq = FSQ(levels)
    digits = fsq.digits(torch.arange(fsq.vocab_size))
    share = std / math.sqrt(len(levels))
    return torch.stack([(torch.randn(n, width) * share)[digits[:, i]] for i, n in enumerate(levels)]).sum(0)
