"""Intervals of rates, paired tests and distances between distributions, by scipy.

The bootstrap of `rates` is our own: scipy's gives no interval where a draw has nothing to divide by, and ratios of
sums over clips (pauses, faults) have such draws. Holm's correction is eight lines, and statsmodels a large package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.metrics.rates import Estimate, Sums
from voicegraft.evaluation.packages import need


def wilson(num_hits: int, num_trials: int, confidence: float = 0.95) -> Estimate:
    """num_hits / num_trials with Wilson's interval, which does not shrink to nothing at 0 or at all of them.

    A bootstrap of "none of 1,000" can only draw none, and would call a rate of 0.3 % impossible.
    Raises VoicegraftError without a trial, or with more hits than trials.
    """
    if not 0 <= num_hits <= num_trials or num_trials < 1:
        raise VoicegraftError(f"a rate needs one trial or more and no more hits than that; got {num_hits}/{num_trials}")
    ends = need("scipy.stats", "scipy").binomtest(num_hits, num_trials).proportion_ci(confidence, method="wilson")
    return Estimate(num_hits / num_trials, float(ends.low), float(ends.high))


def distance(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Wasserstein-1 distance between two samples, in their own unit; None if one of them is empty.

    It is the mean distance that values must be moved to turn one distribution into the other.
    """
    if not len(ours) or not len(theirs):
        return None
    return float(need("scipy.stats", "scipy").wasserstein_distance(ours, theirs))


def swap_test(a: Sums, b: Sums, num_resamples: int = 9999) -> float:
    """Two-sided p of approximate randomisation: would the ratios differ as much if each item's systems were swapped?

    All swaps of few items are tried, of more a random `num_resamples` (the found order counts as one of them).
    """
    if len(a[0]) < 2:
        return 1.0  # the only other order differs as much
    tops, bottoms = (np.concatenate(parts) for parts in zip(a, b, strict=True))

    def difference(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
        ratio_a, ratio_b = (tops[side].sum(axis) / bottoms[side].sum(axis) for side in (one, other))
        return np.abs(ratio_b - ratio_a)

    # Numbers of items are swapped, so that top and bottom of an item stay together.
    items = np.arange(len(tops)).reshape(2, -1)
    found = need("scipy.stats", "scipy").permutation_test(
        tuple(items), difference, permutation_type="samples", vectorized=True, n_resamples=num_resamples,
        alternative="greater", rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(found.pvalue)


def signed_rank_test(values_a: Sequence[float], values_b: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; 1 where no item differs."""
    differences = np.asarray(values_b, float) - np.asarray(values_a, float)
    if not differences.any():
        return 1.0
    return float(need("scipy.stats", "scipy").wilcoxon(differences).pvalue)


def mcnemar_test(num_only_a: int, num_only_b: int) -> float:
    """Two-sided p of McNemar's exact test on the items that only A, and only B, got wrong; 1 where there are none."""
    if not num_only_a + num_only_b:
        return 1.0
    return float(need("scipy.stats", "scipy").binomtest(num_only_a, num_only_a + num_only_b).pvalue)


def exact_share(num_hits: int, num_trials: int, confidence: float = 0.95) -> tuple[Estimate, float]:
    """num_hits / num_trials with the exact binomial (Clopper-Pearson) interval, and the two-sided p against one half."""
    test = need("scipy.stats", "scipy").binomtest(num_hits, num_trials)
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
