"""Scores of a listening test, against SciPy, hand-computed values and injected opinions."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.listening import TRUTH, honest, page_results, save, write_voices
from voicegraft import cli
from voicegraft.evaluation.metrics.rates import percentile_interval
from voicegraft_listening.page import ANCHOR, RECORDINGS, ListeningTestConfig, make_listening_test
from voicegraft_listening.results import Key, Rater, Trial
from voicegraft_listening.scores import CrossedBootstrap, krippendorff_alpha, summarize_listening


def test_alpha_is_krippendorffs() -> None:
    # The example of "Computing Krippendorff's alpha-reliability" (2011): four raters, twelve units, ordinal 0.815.
    raters = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = [[value for value in unit if value is not None] for unit in zip(*raters, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.815, abs=5e-4)


def test_alpha_by_hand() -> None:
    # Two raters, units (1,1) (1,2): values 1 three times, 2 once; ranks' distance (3/2 + 1/2)^2 = 4.
    # Observed 4 * 2 / 4 = 2; by chance 4 * 2 * 3 * 1 / (4 * 3) = 2; alpha = 1 - 2/2 = 0.
    assert krippendorff_alpha([[1, 1], [1, 2]]) == pytest.approx(0)
    assert krippendorff_alpha([[1, 1, 1], [5, 5], [3]]) == 1
    assert krippendorff_alpha([[1, 2], [2, 1]]) == pytest.approx(-0.5)
    assert krippendorff_alpha([[3, 3], [3, 3]]) is None
    assert krippendorff_alpha([]) is None


@pytest.mark.parametrize("shape", [(30, 1), (1, 30)])
def test_with_one_of_a_kind_it_is_scipys_bootstrap(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(1).integers(1, 6, size=shape).astype(float)
    draws = CrossedBootstrap(*shape, num_resamples=20_000).means(values, np.ones(shape))
    ours = percentile_interval(values.mean(), draws)
    theirs = stats.bootstrap((values.ravel(),), np.mean, method="percentile", n_resamples=20_000, rng=2)
    assert [ours.low, ours.high] == pytest.approx(list(theirs.confidence_interval), abs=0.03)


def test_the_interval_covers_when_ratings_cluster() -> None:
    """Listeners and sentences with means of their own: rating by rating an interval would be far too narrow."""
    rng = np.random.default_rng(0)
    shape = (20, 20)
    covered = naive = 0
    for trial in range(200):
        values = rng.normal(0, 0.5, (20, 1)) + rng.normal(0, 0.3, (1, 20)) + rng.normal(0, 0.7, shape)
        estimate = percentile_interval(
            values.mean(), CrossedBootstrap(*shape, 500, seed=trial).means(values, np.ones(shape))
        )
        covered += estimate.low <= 0 <= estimate.high
        naive += abs(values.mean()) <= 1.96 * values.std() / 20
    assert covered / 200 > 0.9
    assert naive / 200 < 0.7


def test_draws_without_a_rating_are_left_out() -> None:
    sums, counts = np.diag([4.0, 2.0]), np.eye(2)
    draws = CrossedBootstrap(2, 2).means(sums, counts)
    assert np.isnan(draws).any() and set(draws[~np.isnan(draws)]) <= {4.0, 3.0, 2.0, 3.6, 2.4, 10 / 3, 8 / 3}
    assert percentile_interval(3.0, draws).low == 2.0


def rater_of(name: str, scores: dict[str, list[int]], answers: dict[str, list[str]] | None = None) -> Rater:
    """scores: system -> one for each sentence; answers: A and B -> one for each sentence."""
    trials = [
        Trial("mos", f"s{n}", (system,), (f"{system}-{n}",), {"likeness": score, "quality": 6 - score}, "", 1.0, False)
        for system, row in scores.items()
        for n, score in enumerate(row)
    ]
    for pair, row in (answers or {}).items():
        a, b = pair.split(maxsplit=1)
        trials += [
            Trial("ab", f"s{n}", (a, b), (f"{a}-{n}", f"{b}-{n}"), {}, answer, 1.0, False)
            for n, answer in enumerate(row)
        ]
    return Rater(name, name, "headphones", "2026", f"{name}.json", tuple(trials))


def key_of(*systems: str) -> Key:
    clips = {f"{name}-0": {"system": name} for name in (*systems, ANCHOR)}
    return Key("t", systems, clips, ())


def test_means_differences_and_tests_are_scipys() -> None:
    rng = np.random.default_rng(3)
    table = {name: rng.integers(low, low + 3, size=(4, 9)) for name, low in (("a", 3), ("b", 2), ("c", 3))}
    raters = [
        rater_of(f"l{i}", {**{name: table[name][i].tolist() for name in table}, ANCHOR: [1] * 9}) for i in range(4)
    ]
    summary = summarize_listening(raters, key_of("a", "b", "c"))
    for row in summary["scores"][:3]:
        assert row["likeness"]["value"] == pytest.approx(table[row["system"]].mean())
        assert row["quality"]["value"] == pytest.approx(6 - table[row["system"]].mean())
        assert row["likeness"]["low"] < row["likeness"]["value"] < row["likeness"]["high"]
        assert row["num_ratings"] == 36
    likeness = [row for row in summary["differences"] if row["scale"] == "likeness"]
    assert [row["systems"] for row in likeness] == [["a", "b"], ["a", "c"], ["b", "c"]]  # nobody asks about the anchor
    expected = []
    for row in likeness:
        one, other = (table[name] for name in row["systems"])
        expected.append(stats.wilcoxon(one.mean(0), other.mean(0)).pvalue)
        assert row["p"] == pytest.approx(expected[-1]) and row["num_sentences"] == 9
        assert row["difference"]["value"] == pytest.approx(one.mean() - other.mean())
    ordered = sorted(expected)
    assert min(row["p_holm"] for row in likeness) == pytest.approx(min(1, 3 * ordered[0]))
    assert max(row["p_holm"] for row in likeness) >= ordered[-1]


def test_preferences_are_exact_and_ties_are_told() -> None:
    raters = [
        rater_of("l0", {}, {"a b": ["A", "A", "A", "B", "same"]}),
        rater_of("l1", {}, {"b a": ["B", "B", "A", "B", "same"]}),
        rater_of("l2", {}, {"a b": ["A", "A", "A", "A", "A"], f"a {ANCHOR}": ["B"] * 5}),
    ]
    summary = summarize_listening(raters, key_of("a", "b"))
    (row,) = summary["preferences"]  # pairs with the low anchor are not among them
    assert (row["systems"], row["wins"], row["ties"]) == (["a", "b"], [11, 2], 2)
    exact = stats.binomtest(11, 13)
    assert row["p"] == pytest.approx(exact.pvalue) == row["p_holm"]
    # Clopper and Pearson's limits are quantiles of the beta distribution.
    assert row["share"]["low"] == pytest.approx(stats.beta.ppf(0.025, 11, 3))
    assert row["share"]["high"] == pytest.approx(stats.beta.ppf(0.975, 12, 2))
    assert row["share_ties_half"]["value"] == pytest.approx(12 / 15)
    assert "scores" not in summary
    # Whichever way round a pair was offered, the verdict is the same.
    assert summary["agreement"]["preference"] == pytest.approx(
        krippendorff_alpha([[1, 1, 1], [1, 1, 1], [1, -1, 1], [-1, 1, 1], [0, 0, 1]])
    )
    ties = summarize_listening([rater_of("l0", {}, {"a b": ["same"] * 3})], key_of("a", "b"))["preferences"][0]
    assert (ties["share"], ties["p"], ties["share_ties_half"]["value"]) == (None, 1.0, 0.5)


@pytest.fixture
def made(tmp_path: Path) -> tuple[dict[str, Any], Path]:
    names = ("splendid", "middling", "horrible")
    config = ListeningTestConfig(
        systems=tuple((name, write_voices(tmp_path, name, 9)) for name in names),
        recordings=write_voices(tmp_path, "narrator", 9),
        parts=("mos", "ab"),
        per_listener=25,
        out=tmp_path / "test",
    )
    return make_listening_test(config), config.out / "key.json"


def test_injected_opinions_come_back_and_bad_raters_do_not_count(
    made: tuple[dict[str, Any], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, key_path = made
    files = [save(tmp_path, page_results(key, f"good{s}", honest(random.Random(s)), s)) for s in range(10)]
    for seed in range(20, 23):
        rng = random.Random(seed)
        files.append(save(tmp_path, page_results(key, f"bad{seed}", lambda *_, rng=rng: rng.randint(1, 5), seed)))
    (tmp_path / "results-broken.json").write_text("{")
    files.append(tmp_path / "results-broken.json")
    out = tmp_path / "report"
    arguments = ["listen-test", "score", "--key", str(key_path), "--out", str(out), *map(str, files)]
    assert cli.main(arguments) == 0
    report = json.loads((out / "report.json").read_text())
    after, everybody = report["after_exclusion"], report["all_raters"]
    assert (after["num_listeners"], everybody["num_listeners"]) == (10, 13)
    assert {r["listener"] for r in report["raters"] if r["broken"]} == {"bad20", "bad21", "bad22"}
    for row, with_all in zip(after["scores"], everybody["scores"], strict=True):
        truth = TRUTH[row["system"]]
        for scale in ("likeness", "quality"):
            assert row[scale]["low"] - 0.15 <= truth <= row[scale]["high"] + 0.15
            if row["system"] in (RECORDINGS, ANCHOR):
                assert abs(with_all[scale]["value"] - truth) > abs(row[scale]["value"] - truth)
    for row in after["differences"]:
        one, other = (TRUTH[name] for name in row["systems"])
        assert row["difference"]["low"] * (one - other) > 0 and row["p_holm"] < 0.05
    for row in after["preferences"]:  # the systems come from the best to the worst
        assert row["share"]["low"] > 0.5 and row["p_holm"] < 0.05
    assert after["agreement"]["likeness"] > 0.5 > everybody["agreement"]["likeness"] - 0.2
    assert len(report["trials"]) == 13 * (29 + 24 + 4 + 4)

    text = capsys.readouterr().out
    assert text.strip() == (out / "report.md").read_text().strip()
    for expected in ("after exclusion", "all raters", "bad21", "results-broken.json", "anchor 2.5", "horrible"):
        assert expected in text


def test_rules_and_nobody_left(
    made: tuple[dict[str, Any], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, key_path = made
    bad = str(save(tmp_path, page_results(key, "bad", lambda *_: 3)))
    arguments = ["listen-test", "score", "--key", str(key_path), "--out", str(tmp_path / "report"), bad]
    assert cli.main(arguments) == 0
    assert "Every listener broke a rule" in capsys.readouterr().out
    off = [f"--rule={name}=off" for name in ("anchor", "reference", "same")]
    assert cli.main([*arguments, *off]) == 0
    assert "none was excluded" in capsys.readouterr().out
    assert cli.main([*arguments[:-1], "--rule", "fast=off", "--rule", "same=off", bad]) == 0  # the file is no rule
    assert cli.main([*arguments, "--rule", "mood=1"]) == 2
    (tmp_path / "x.json").write_text("{}")
    assert cli.main([*arguments[:-1], str(tmp_path / "x.json")]) == 2
    assert "none can be used: x.json: " in capsys.readouterr().err
