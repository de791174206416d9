"""Codes without their repetitions: what is said, apart from how long it lasts.

Language models of units often read them so (Lakhotia et al. 2021, arXiv 2102.01192); the counts bring the time back.
"""

from __future__ import annotations

import torch
from torch import Tensor


def deduplicate(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Codes ``[T]`` -> units ``[U]``, no two neighbours alike, and how many frames each lasts ``[U]``."""
    units, counts = torch.unique_consecutive(codes, return_counts=True)
    return units, counts


def duplicate(units: Tensor, counts: Tensor) -> Tensor:
    """Units ``[U]`` and the frames that each lasts ``[U]`` -> codes ``[T]``: the inverse of ``deduplicate``."""
    return units.repeat_interleave(counts)
