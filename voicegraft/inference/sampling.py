"""Drawing a token from logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    temperature: float = 0.4  # 0 takes the likeliest
    top_p: float = 0.8  # nucleus: smallest set of tokens with this probability (Holtzman et al. 2019)

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"temperature must be >= 0 and top_p in (0, 1], got {self.temperature}, {self.top_p}")


def draw(logits: Tensor, sampling: Sampling, generator: torch.Generator | None = None) -> int:
    """One index from logits ``[V]``."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits.float() / sampling.temperature, -1)
    if sampling.top_p < 1:
        ordered, index = probabilities.sort(descending=True)
        keep = ordered.cumsum(0) - ordered < sampling.top_p
        return int(index[torch.multinomial(ordered * keep, 1, generator=generator)])
    return int(torch.multinomial(probabilities, 1, generator=generator))
