"""Intervals and tests beside SciPy's."""

import numpy as np
import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.metrics import significance as statistics
from voicegraft.evaluation.metrics.rates import bootstrap_difference, bootstrap_mean, bootstrap_ratio

stats = pytest.importorskip("scipy.stats")


def clips(num_items, rate, seed):
    """Errors and lengths of clips of 3 to 19 words."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(3, 20, size=num_items)
    return draw.binomial(lengths, rate).astype(float), lengths.astype(float)


def scipys(data, statistic):
    options = {"n_resamples": 2000, "method": "percentile", "random_state": 1}
    return stats.bootstrap(data, statistic, paired=True, vectorized=True, **options).confidence_interval


def test_bootstrap_ratio_agrees_with_scipy():
    errors, lengths = clips(60, 0.2, 0)
    ours = bootstrap_ratio(list(errors), list(lengths))
    theirs = scipys((errors, lengths), lambda e, n, axis: e.sum(axis=axis) / n.sum(axis=axis))
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.08 * width)


def test_bootstrap_mean_agrees_with_scipy():
    values = np.random.default_rng(3).gamma(2.0, size=50)
    ours = bootstrap_mean(list(values))
    theirs = stats.bootstrap((values,), np.mean, n_resamples=2000, method="percentile", random_state=1)
    low, high = theirs.confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.08 * (high - low))


@pytest.mark.parametrize(("hits", "trials"), [(0, 1000), (1, 1000), (7, 20), (20, 20), (1, 1)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_is_that_of_scipy(hits, trials, confidence):
    theirs = stats.binomtest(hits, trials).proportion_ci(confidence, method="wilson")
    ours = statistics.wilson(hits, trials, confidence)
    assert ours.value == hits / trials
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert ours.high > 0 and ours.low < 1


@pytest.mark.parametrize(("hits", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_rate(hits, trials):
    with pytest.raises(VoicegraftError, match="rate"):
        statistics.wilson(hits, trials)


def ratio_difference(errors_a, lengths_a, errors_b, lengths_b, axis):
    return errors_b.sum(axis=axis) / lengths_b.sum(axis=axis) - errors_a.sum(axis=axis) / lengths_a.sum(axis=axis)


def test_bootstrap_difference_agrees_with_scipy():
    errors_a, lengths = clips(60, 0.2, 0)
    errors_b = np.maximum(errors_a - clips(60, 0.05, 1)[0], 0)
    ours = bootstrap_difference((errors_a, lengths), (errors_b, lengths), paired=True)
    theirs = scipys((errors_a, lengths, errors_b, lengths), ratio_difference)
    assert ours.value == pytest.approx((errors_b.sum() - errors_a.sum()) / lengths.sum())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.08 * (theirs.high - theirs.low))


def test_pairing_narrows_the_interval_of_items_that_are_hard_for_both():
    errors_a, lengths = clips(60, 0.3, 0)
    errors_b = errors_a + (np.arange(60) % 3 == 0)
    paired = bootstrap_difference((errors_a, lengths), (errors_b, lengths), paired=True)
    apart = bootstrap_difference((errors_a, lengths), (errors_b, lengths))
    assert apart.value == pytest.approx(paired.value)
    assert paired.high - paired.low < 0.5 * (apart.high - apart.low)


def test_difference_of_groups_agrees_with_scipy():
    a, b = np.random.default_rng(0).normal(3, 1, 40), np.random.default_rng(1).normal(3.5, 2, 70)
    ours = bootstrap_difference((a, np.ones(40)), (b, np.ones(70)))
    low, high = stats.bootstrap(
        (a, b),
        lambda x, y, axis: y.mean(axis=axis) - x.mean(axis=axis),
        vectorized=True,
        n_resamples=2000,
        method="percentile",
        random_state=1,
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.08 * (high - low))


@pytest.mark.parametrize("num_items", [6, 10, 40])
@pytest.mark.parametrize("other_lengths", [False, True])
def test_swap_test_agrees_with_scipys_permutation_test(num_items, other_lengths):
    errors_a, lengths_a = clips(num_items, 0.3, 0)
    errors_b, lengths_b = clips(num_items, 0.22, 5)
    if not other_lengths:
        lengths_b = lengths_a
    ours = statistics.swap_test((errors_a, lengths_a), (errors_b, lengths_b))

    def statistic(a, b, axis):  # errors and length of an item travel together as one complex number
        return b.real.sum(axis) / b.imag.sum(axis) - a.real.sum(axis) / a.imag.sum(axis)

    theirs = stats.permutation_test(
        (errors_a + 1j * lengths_a, errors_b + 1j * lengths_b),
        lambda a, b, axis: np.abs(statistic(a, b, axis)),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        alternative="greater",
        random_state=1,
    ).pvalue
    assert ours == pytest.approx(theirs, abs=1e-9 if num_items < 13 else 0.02)


def test_swap_test_of_what_never_changes_is_one_and_of_what_always_does_is_small():
    errors, lengths = clips(30, 0.3, 0)
    assert statistics.swap_test((errors, lengths), (errors, lengths)) == 1
    assert statistics.swap_test((errors, lengths), (errors + 1, lengths)) == pytest.approx(1e-4)
    few = (np.zeros(5), np.ones(5)), (np.ones(5), np.ones(5))
    assert statistics.swap_test(*few) == pytest.approx(2 / 2**5)
    assert statistics.swap_test((np.zeros(1), np.ones(1)), (np.ones(1), np.ones(1))) == 1


def test_signed_rank_test_is_wilcoxons():
    a = np.random.default_rng(0).normal(3, 0.5, 25)
    b = a + np.random.default_rng(1).normal(0.2, 0.3, 25)
    assert statistics.signed_rank_test(list(a), list(b)) == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert statistics.signed_rank_test([1.0, 2.0], [1.0, 2.0]) == 1


def test_mcnemar_test_is_a_fair_coin_over_the_items_that_differ():
    assert statistics.mcnemar_test(0, 0) == 1
    assert statistics.mcnemar_test(0, 6) == pytest.approx(2 / 2**6)
    assert statistics.mcnemar_test(3, 9) == pytest.approx(stats.binomtest(3, 12).pvalue)


def test_holm_multiplies_by_what_is_left_and_never_falls():
    found = statistics.holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.9})
    assert found == pytest.approx({"a": 0.09, "b": 0.04, "c": 0.09, "d": 0.9})
    assert list(found) == ["a", "b", "c", "d"]
    assert statistics.holm({}) == {}


def test_distance_is_how_far_values_move():
    assert statistics.distance([1, 2, 3], [2, 3, 4]) == pytest.approx(1)
    assert statistics.distance([1, 2], [1, 2]) == 0
    assert statistics.distance([0, 4], [2, 2]) == pytest.approx(2)  # the mean alone would see no difference
    assert statistics.distance([], [1]) is None


def test_a_missing_scipy_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.stats", None)
    with pytest.raises(VoicegraftError, match=r"scipy.*pip install voicegraft\[evaluate\]"):
        statistics.distance([1], [2])
