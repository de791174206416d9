"""K-means in torch, and units that are the nearest of its centroids.

Mini-batch k-means (Sculley 2010): every centroid is the mean of all frames that were ever nearest to it. It begins from
k-means++ (Arthur and Vassilvitskii 2007), and centroids that nothing is near to are put elsewhere.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.core.errors import VoicegraftError

_CHUNK = 8192  # frames compared with all centroids at a time
_LEAST_SAMPLE = 4096  # frames to choose the first centroids from: rare sounds must be among them
_NUM_NEIGHBOURS = 4  # units that sound most like a unit
_ROWS_SEED = 0


def nearest(features: Tensor, centroids: Tensor) -> Tensor:
    """Features ``[..., D]``, centroids ``[V, D]`` -> numbers of the nearest ones ``[...]``."""
    flat, centroids = features.reshape(-1, features.shape[-1]).float(), centroids.float()
    norms = centroids.square().sum(-1)
    # |x - c|^2 without its |x|^2, which no centroid changes
    found = [(norms - 2 * part @ centroids.T).argmin(-1) for part in flat.split(_CHUNK)]
    return torch.cat(found).view(features.shape[:-1])


class MiniBatchKMeans:
    """K-means that sees a batch of frames at a time; its tensors are all that it knows."""

    def __init__(self, centroids: Tensor):
        self.centroids = centroids.clone()  # [V, D]
        self.counts = torch.zeros(len(centroids), dtype=torch.long, device=centroids.device)  # frames since the seed
        self.recent = torch.zeros_like(self.counts)  # frames since the last `reseed`

    def update(self, features: Tensor) -> float:
        """Moves the centroids towards frames ``[N, D]``; returns their mean squared distance from before the move."""
        codes = nearest(features, self.centroids)
        inertia = (features - self.centroids[codes]).square().sum(-1).mean()
        sums = torch.zeros_like(self.centroids)
        for part, own in zip(features.split(_CHUNK), codes.split(_CHUNK), strict=True):
            # A product and not `index_add_`, whose sums on a GPU have another order every time.
            sums += F.one_hot(own, len(sums)).to(part).T @ part
        added = torch.bincount(codes, minlength=len(sums))
        self.counts += added
        self.recent += added
        self.centroids += (sums - added[:, None] * self.centroids) / self.counts.clamp(min=1)[:, None]
        return float(inertia)

    def reseed(self, features: Tensor, generator: torch.Generator) -> int:
        """Puts centroids without a frame since the last call onto frames ``[N, D]``, rather far ones; returns how many."""
        dead = (self.recent == 0).nonzero()[:, 0][: len(features)]
        self.recent.zero_()
        if len(dead):
            far = (features - self.centroids[nearest(features, self.centroids)]).square().sum(-1).cpu()
            chosen = torch.multinomial(far.double() + 1e-12, len(dead), generator=generator)
            self.centroids[dead] = features[chosen.to(features.device)]
            self.counts[dead] = 0
        return len(dead)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must keep."""
        return {"centroids": self.centroids, "counts": self.counts, "recent": self.recent}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])


def plus_plus(features: Tensor, num_clusters: int, generator: torch.Generator) -> Tensor:
    """First centroids ``[num_clusters, D]``: frames of ``[N, D]`` far from one another, by greedy k-means++.

    They are chosen among three frames per cluster, but no fewer than 4,096, whose distances are computed once.

    Raises VoicegraftError if there are fewer frames than clusters.
    """
    if len(features) < num_clusters:
        raise VoicegraftError(
            f"expected at least one frame for each of {num_clusters} clusters, got {len(features)}: "
            "give more speech or lower vocab_size"
        )
    drawn = torch.randperm(len(features), generator=generator)[: max(3 * num_clusters, _LEAST_SAMPLE)]
    sample = features[drawn.to(features.device)]
    centred = sample - sample.mean(0)  # distances as differences of large numbers would be inexact
    norms = centred.square().sum(-1)
    between = (norms[:, None] + norms - 2 * centred @ centred.T).clamp_(min=0).cpu()  # [M, M]
    between.fill_diagonal_(0)
    num_tries = 2 + int(math.log(num_clusters))
    first = int(torch.randint(len(sample), (1,), generator=generator))
    chosen, left = [first], between[first]
    for _ in range(1, num_clusters):
        tries = torch.multinomial(left + 1e-12, num_tries, replacement=True, generator=generator)
        after = between[tries].minimum(left)
        best = int(after.sum(-1).argmin())
        left = after[best]
        chosen.append(int(tries[best]))
    return sample[chosen]


def fit_centroids(
    features: Tensor, num_clusters: int, seed: int = 0, batch_size: int = 8192, num_passes: int = 20
) -> Tensor:
    """Centroids ``[num_clusters, D]`` of features ``[N, D]`` that fit into memory; raises as ``plus_plus`` does."""
    generator = torch.Generator().manual_seed(seed)
    kmeans = MiniBatchKMeans(plus_plus(features, num_clusters, generator))
    for number in range(num_passes):
        for rows in torch.randperm(len(features), generator=generator).to(features.device).split(batch_size):
            kmeans.update(features[rows])
        if number < num_passes - 1:  # what is put elsewhere at the very end would not have moved
            kmeans.reseed(features[rows], generator)
    return kmeans.centroids


class CentroidUnits(nn.Module):
    """Units that are the nearest of V centroids, and what follows from where the centroids lie."""

    centroids: Tensor  # [V, D]
    _neighbours: Tensor | None  # [V, N]

    def __init__(self, vocab_size: int, width: int):
        super().__init__()
        self.register_buffer("centroids", torch.zeros(vocab_size, width))
        self.register_buffer("_neighbours", None, persistent=False)

    def place(self, centroids: Tensor) -> None:
        """Puts the centroids ``[V, D]`` there."""
        self.centroids.copy_(centroids)
        self._neighbours = None

    def units(self, features: Tensor) -> Tensor:
        """Features ``[B, T, D]`` -> codes ``[B, 1, T]``."""
        return nearest(features, self.centroids)[:, None]

    def rows(self, width: int, std: float) -> Tensor:
        """Embedding rows ``[V, width]`` of that standard deviation: a fixed random projection, which keeps near ones near."""
        centroids = self.centroids.float().cpu()
        standard = (centroids - centroids.mean(0)) / centroids.std(0, correction=0).clamp(min=1e-6)
        generator = torch.Generator().manual_seed(_ROWS_SEED)
        rows = standard @ torch.randn(standard.shape[1], width, generator=generator)
        return rows * (std / rows.std().clamp(min=1e-6))

    def perturb(self, codes: Tensor, share: float) -> Tensor:
        """Codes of any shape, this share of them replaced by one of the nearest other units."""
        if self._neighbours is None:
            self._neighbours = self._nearest_others()
        table = self._neighbours.to(codes.device)
        pick = torch.randint(table.shape[1], codes.shape, device=codes.device)
        other = table[codes.long(), pick].to(codes.dtype)
        return torch.where(torch.rand(codes.shape, device=codes.device) < share, other, codes)

    def _nearest_others(self) -> Tensor:
        distances = torch.cdist(self.centroids.float(), self.centroids.float())
        distances.fill_diagonal_(torch.inf)
        return distances.topk(min(_NUM_NEIGHBOURS, len(distances) - 1), largest=False).indices
