"""K-means of our own, against scikit-learn's and against what a run that was never stopped ends with."""

import pytest
import torch
from torch import Tensor

from voicegraft.core.errors import VoicegraftError
from voicegraft.tokenizers.centroids import CentroidUnits, MiniBatchKMeans, fit_centroids, nearest, plus_plus


def clouds(num_frames: int = 6000, num_clouds: int = 40, seed: int = 0) -> Tensor:
    """Frames ``[N, 12]`` around centres of unequal weight and width."""
    draw = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(num_clouds, 12, generator=draw)
    which = (num_clouds * torch.rand(num_frames, generator=draw) ** 2).long()
    return centres[which] + torch.randn(num_frames, 12, generator=draw) * (0.3 + which[:, None] / num_clouds)


def inertia(frames: Tensor, centroids: Tensor) -> float:
    return float((frames - centroids[nearest(frames, centroids)]).square().sum(-1).mean())


@pytest.mark.parametrize("num_clusters", [8, 40, 100])
def test_it_is_as_good_as_scikit_learns(num_clusters: int) -> None:
    sklearn = pytest.importorskip("sklearn.cluster")
    frames = clouds()
    ours, theirs = [], []
    for seed in range(3):
        model = sklearn.MiniBatchKMeans(num_clusters, batch_size=512, max_iter=20, n_init=1, random_state=seed)
        theirs.append(model.fit(frames.numpy()).inertia_ / len(frames))
        ours.append(inertia(frames, fit_centroids(frames, num_clusters, seed, batch_size=512)))
    assert sum(ours) < 1.03 * sum(theirs)


def test_the_nearest_is_the_nearest_in_pieces_too() -> None:
    frames, centroids = clouds(20_000) + 5, clouds(64, seed=1) + 5
    assert torch.equal(nearest(frames, centroids), torch.cdist(frames, centroids).argmin(-1))
    assert nearest(frames.view(4, 5000, 12), centroids).shape == (4, 5000)
    assert nearest(frames[:0], centroids).shape == (0,)


def test_first_centroids_are_frames_far_apart() -> None:
    frames = clouds()
    chosen = plus_plus(frames, 40, torch.Generator().manual_seed(0))
    assert all((frames == row).all(-1).any() for row in chosen)
    at_random = frames[torch.randperm(len(frames), generator=torch.Generator().manual_seed(0))[:40]]
    assert inertia(frames, chosen) < 0.8 * inertia(frames, at_random)
    same = plus_plus(torch.ones(50, 3), 4, torch.Generator().manual_seed(0))  # nothing to choose from
    assert torch.equal(same, torch.ones(4, 3))
    with pytest.raises(VoicegraftError, match="40 clusters, got 39"):
        plus_plus(frames[:39], 40, torch.Generator())


def test_a_centroid_is_the_mean_of_all_frames_that_came_to_it() -> None:
    frames = clouds(400)
    kmeans = MiniBatchKMeans(frames[:1] * 0)
    for part in frames.split(150):
        kmeans.update(part)
    assert torch.allclose(kmeans.centroids[0], frames.mean(0), atol=1e-5)
    assert kmeans.counts.tolist() == [400]


def test_what_nothing_is_near_to_moves_where_frames_are() -> None:
    frames = clouds()
    kmeans = MiniBatchKMeans(torch.cat([frames[:10], torch.full((10, 12), 1e3)]))
    kmeans.update(frames)
    before = inertia(frames, kmeans.centroids)
    assert kmeans.reseed(frames, torch.Generator().manual_seed(0)) == 10
    assert inertia(frames, kmeans.centroids) < before
    kmeans.update(frames)
    assert len(nearest(frames, kmeans.centroids).unique()) == 20
    assert kmeans.reseed(frames, torch.Generator()) == 0


def test_nudged_units_are_the_nearest_others() -> None:
    units = CentroidUnits(32, 2)
    angles = torch.arange(32) * torch.pi / 16
    units.place(torch.stack([angles.cos(), angles.sin()], -1))
    codes = torch.arange(32).repeat(100)
    steps = (units.perturb(codes, 1.0) - codes) % 32
    assert set(steps.tolist()) == {1, 2, 30, 31}
    units.place(torch.stack([angles.cos(), angles.sin()], -1)[torch.arange(32) * 5 % 32])
    assert set(((units.perturb(codes, 1.0) - codes) * 5 % 32).tolist()) == {1, 2, 30, 31}, "the table is stale"
    assert "_neighbours" not in units.state_dict()
