"""Batches of sequences of like length, as a pure function of the batch's number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from voicegraft.data.sequences import IGNORE, SpeechSequence


class LengthBuckets:
    """Draws indices of items of like length, ``budget`` positions a batch, with replacement.

    A bucket is drawn by its share of all weighted positions, then items in it by weight; so every item is seen in
    proportion to its weight, and little is spent on padding.
    """

    def __init__(self, lengths: Sequence[int], weights: Sequence[float], budget: int, num_buckets: int = 16):
        order = np.argsort(lengths, kind="stable")
        self.budget = budget
        sizes = np.asarray(lengths)
        weight = np.asarray(weights, dtype=np.float64)
        keep = order[weight[order] > 0]
        self.buckets = [b for b in np.array_split(keep, num_buckets) if len(b)]
        self.lengths, self.weights = sizes, weight
        mass = np.asarray([(weight[b] * sizes[b]).sum() for b in self.buckets])
        self.shares = mass / mass.sum()

    def draw(self, number: int, seed: int) -> np.ndarray:
        """Indices of batch ``number``."""
        random = np.random.default_rng([seed, number])
        bucket = self.buckets[random.choice(len(self.buckets), p=self.shares)]
        count = max(1, self.budget // int(self.lengths[bucket].max()))
        share = self.weights[bucket] / self.weights[bucket].sum()
        return random.choice(bucket, size=count, p=share)


def collate(sequences: Sequence[SpeechSequence], device: torch.device) -> dict[str, Tensor]:
    """Pads on the right to the longest: field name -> ``[B, L, ...]``. With causal attention the padding changes nothing."""
    longest = max(len(s) for s in sequences)
    padding = {"token": -1, "more": -1, "target": IGNORE, "more_target": IGNORE}  # zero for all others
    batch = {}
    for field in fields(SpeechSequence):
        arrays = [getattr(sequence, field.name) for sequence in sequences]
        shape = (len(arrays), longest, *arrays[0].shape[1:])
        rows = np.full(shape, padding.get(field.name, 0), dtype=np.int64)
        for row, array in zip(rows, arrays, strict=True):
            row[: len(array)] = array
        batch[field.name] = torch.from_numpy(rows).to(device)
    return batch
