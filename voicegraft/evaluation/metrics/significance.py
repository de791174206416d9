"""Intervals of rates, paired tests and distances between distributions, by scipy.

The bootstraps here and in `rates` are our own: scipy's gives no interval where a draw has nothing to divide by, and ratios of
sums over clips (pauses, faults) have such draws. Holm's correction is eight lines, and statsmodels a large package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.metrics.rates import Estimate


def wilson(num_hits: int, num_trials: int, confidence: float = 0.95) -> Estimate:
    """num_hits / num_trials with Wilson's interval, which does not shrink to nothing at 0 or at all of them.

    A bootstrap of "none of 1,000" can only draw none, and would call a rate of 0.3 % impossible.
    Raises VoicegraftError without a trial, or with more hits than trials.
    """
    if not 0 <= num_hits <= num_trials or num_trials < 1:
        raise VoicegraftError(f"a rate needs one trial or more and no more hits than that; got {num_hits}/{num_trials}")
    ends = _scipy_stats().binomtest(num_hits, num_trials).proportion_ci(confidence, method="wilson")
    return Estimate(num_hits / num_trials, float(ends.low), float(ends.high))


def distance(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Wasserstein-1 distance between two samples, in their own unit; None if one of them is empty.

    It is the mean distance that values must be moved to turn one distribution into the other.
    """
    if not len(ours) or not len(theirs):
        return None
    return float(_scipy_stats().wasserstein_distance(ours, theirs))


@dataclass(frozen=True)
class Pairs:
    """Parts of a ratio of sums, item by item, of two systems A and B: tops / bottoms, all float [N].

    A mean is the ratio whose bottoms are all 1.
    """

    tops_a: np.ndarray
    bottoms_a: np.ndarray
    tops_b: np.ndarray
    bottoms_b: np.ndarray

    @staticmethod
    def of_values(values_a: Sequence[float], values_b: Sequence[float]) -> Pairs:
        ones = np.ones(len(values_a))
        return Pairs(np.asarray(values_a, float), ones, np.asarray(values_b, float), ones)

    @property
    def ratios(self) -> tuple[float, float]:
        return (
            float(self.tops_a.sum() / self.bottoms_a.sum()),
            float(self.tops_b.sum() / self.bottoms_b.sum()),
        )


def bootstrap_difference(pairs: Pairs, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Ratio of B minus ratio of A, with a percentile bootstrap interval over items: both systems get the same draw."""
    num_items = len(pairs.tops_a)
    picks = np.random.default_rng(seed).integers(0, num_items, size=(num_resamples, num_items))
    drawn = _ratios(pairs.tops_b, pairs.bottoms_b, picks) - _ratios(pairs.tops_a, pairs.bottoms_a, picks)
    ratio_a, ratio_b = pairs.ratios
    return _estimate(ratio_b - ratio_a, drawn, confidence)


def bootstrap_difference_of_groups(
    group_a: tuple[np.ndarray, np.ndarray],
    group_b: tuple[np.ndarray, np.ndarray],
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """The same for unpaired groups, each tops and bottoms [N] of its own: each is drawn from itself."""
    draw = np.random.default_rng(seed)
    drawn, ratios = [], []
    for tops, bottoms in (group_a, group_b):
        picks = draw.integers(0, len(tops), size=(num_resamples, len(tops)))
        drawn.append(_ratios(tops, bottoms, picks))
        ratios.append(float(tops.sum() / bottoms.sum()))
    return _estimate(ratios[1] - ratios[0], drawn[1] - drawn[0], confidence)


def _ratios(tops: np.ndarray, bottoms: np.ndarray, picks: np.ndarray) -> np.ndarray:
    """Ratio of sums of each draw [R, N] -> [R]; NaN where a draw has nothing to divide by."""
    sums = bottoms[picks].sum(axis=1)
    return np.divide(tops[picks].sum(axis=1), sums, out=np.full(len(picks), np.nan), where=sums > 0)


def _estimate(value: float, drawn: np.ndarray, confidence: float) -> Estimate:
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def swap_test(pairs: Pairs, num_resamples: int = 9999, seed: int = 0) -> float:
    """Two-sided p of approximate randomisation: would the ratios differ as much if each item's systems were swapped?

    All swaps of few items are tried, of more a random `num_resamples` (the found order counts as one of them).
    """
    if len(pairs.tops_a) < 2:
        return 1.0  # the only other order differs as much
    tops, bottoms = np.concatenate([pairs.tops_a, pairs.tops_b]), np.concatenate([pairs.bottoms_a, pairs.bottoms_b])

    def difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        ratio_a, ratio_b = (tops[side].sum(axis) / bottoms[side].sum(axis) for side in (a, b))
        return np.abs(ratio_b - ratio_a)

    # Numbers of items are swapped, so that top and bottom of an item stay together.
    items = np.arange(len(tops)).reshape(2, -1)
    found = _scipy_stats().permutation_test(
        tuple(items), difference, permutation_type="samples", vectorized=True, n_resamples=num_resamples,
        alternative="greater", rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.pvalue)


def signed_rank_test(values_a: Sequence[float], values_b: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; 1 where no item differs."""
    differences = np.asarray(values_b, float) - np.asarray(values_a, float)
    if not differences.any():
        return 1.0
    return float(_scipy_stats().wilcoxon(differences).pvalue)


def mcnemar_test(num_only_a: int, num_only_b: int) -> float:
    """Two-sided p of McNemar's exact test on the items that only A, and only B, got wrong; 1 where there are none."""
    if not num_only_a + num_only_b:
        return 1.0
    return float(_scipy_stats().binomtest(num_only_a, num_only_a + num_only_b).pvalue)


def exact_share(num_hits: int, num_trials: int, confidence: float = 0.95) -> tuple[Estimate, float]:
    """num_hits / num_trials with the exact binomial (Clopper-Pearson) interval, and the two-sided p against one half."""
    test = _scipy_stats().binomtest(num_hits, num_trials)
    ends = test.proportion_ci(confidence, method="exact")
    return Estimate(num_hits / num_trials, float(ends.low), float(ends.high)), float(test.pvalue)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p values corrected for how many there are, so that one wrong alarm among all stays as rare (Holm 1979)."""
    corrected: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = highest
    return {name: corrected[name] for name in p_values}


def _scipy_stats() -> ModuleType:
    try:
        import scipy.stats
    except ImportError as error:
        raise VoicegraftError(
            f"comparing distributions needs the package scipy, which cannot be imported ({error}); "
            "run: pip install voicegraft[evaluate]"
        ) from error
    return scipy.stats
