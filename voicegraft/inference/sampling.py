"""Drawing a token from logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voicegraft.core.errors import VoicegraftError


@dataclass(frozen=True)
class Sampling:
    temperature: float = 0.4  # 0 takes the likeliest
    top_p: float = 0.8  # nucleus: smallest set of tokens with this probability (Holtzman et al. 2019)

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"temperature must be >= 0 and top_p in (0, 1], got {self.temperature}, {self.top_p}")


def draw(logits: np.ndarray, sampling: Sampling, random: np.random.Generator | None = None) -> int:
    """One index from logits ``[V]``.

    Raises:
        VoicegraftError: they are not numbers, as of a damaged model, which would never come to an end.
    """
    if not np.isfinite(logits.max()):
        raise VoicegraftError(
            "the model computes what are no numbers: its weights or settings are damaged; get it anew"
        )
    if sampling.temperature == 0:
        return int(logits.argmax())
    scaled = logits.astype(np.float64) / sampling.temperature
    likelihood = np.exp(scaled - scaled.max())
    index = np.argsort(-likelihood) if sampling.top_p < 1 else np.arange(len(likelihood))
    total = likelihood[index].cumsum()
    if sampling.top_p < 1:
        total = total[: int(np.searchsorted(total, sampling.top_p * total[-1])) + 1]
    place = (random or np.random.default_rng()).random() * total[-1]
    return int(index[np.searchsorted(total, place, side="right")])
