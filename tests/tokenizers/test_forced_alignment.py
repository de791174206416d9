import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from voicegraft.tokenizers.forced_alignment import force_align


def segmentations(num_frames: int, skippable: list[bool]) -> Iterator[tuple[int, ...]]:
    """All frame counts: zero only where skippable."""
    ranges = [range(0 if skip else 1, num_frames + 1) for skip in skippable]
    return (counts for counts in itertools.product(*ranges) if sum(counts) == num_frames)


def score(log_probs: np.ndarray, classes: list[int], counts: tuple[int, ...]) -> float:
    path = np.repeat(classes, counts)
    return float(log_probs[np.arange(len(path)), path].sum())


@pytest.mark.parametrize("seed", range(60))
def test_the_alignment_is_the_best_of_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    num_frames, num_units = int(random.integers(1, 8)), int(random.integers(1, 6))
    skippable = [bool(s) for s in random.random(num_units) < 0.5]
    for i in range(1, num_units):  # no two neighbours
        skippable[i] &= not skippable[i - 1]
    classes = random.integers(0, 4, num_units).tolist()
    log_probs = np.log(random.dirichlet(np.ones(4), num_frames))
    counts = force_align(log_probs, classes, skippable)
    best = max((score(log_probs, classes, c) for c in segmentations(num_frames, skippable)), default=None)
    if best is None:
        assert counts is None
    else:
        assert counts is not None and counts.sum() == num_frames
        assert tuple(counts) in set(segmentations(num_frames, skippable))
        assert score(log_probs, classes, tuple(counts)) == pytest.approx(best)


def test_clear_evidence_is_followed() -> None:
    truth = np.repeat([4, 0, 1, 4], [3, 2, 5, 1])
    log_probs = np.log(np.where(np.arange(5) == truth[:, None], 0.96, 0.01))
    counts = force_align(log_probs, [4, 0, 4, 1, 4], [True, False, True, False, True])
    assert counts.tolist() == [3, 2, 0, 5, 1]


@pytest.mark.parametrize("first", [True, False])
def test_silence_at_the_ends_may_be_missing(first: bool) -> None:
    log_probs = np.log(np.array([[0.9, 0.1]] * 2 + [[0.1, 0.9]] * 2))
    classes, skippable = ([1, 0, 1], [True, False, True]) if first else ([0, 1, 0], [False, False, True])
    counts = force_align(log_probs, classes, skippable)
    assert counts.tolist() == ([0, 2, 2] if first else [2, 2, 0])


def test_too_few_frames_cannot_be_aligned() -> None:
    log_probs = np.zeros((2, 3))
    assert force_align(log_probs, [0, 1, 2], [False, False, False]) is None
    assert force_align(log_probs, [0, 1, 2], [False, True, False]).tolist() == [1, 0, 1]
    assert force_align(log_probs, [], []) is None


def test_what_is_impossible_is_not_aligned() -> None:
    log_probs = np.array([[0.0, -np.inf]] * 4)
    assert force_align(log_probs, [0, 1], [False, False]) is None
