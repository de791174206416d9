"""What a listening test found: opinion scores, differences, preferences and agreement, with their uncertainty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from voicegraft.evaluation.metrics.rates import Estimate, percentile_interval
from voicegraft.evaluation.metrics.significance import exact_share, holm, signed_rank_test
from voicegraft_listening.page import AB, ANCHOR, MOS, SCALES
from voicegraft_listening.results import Key, Rater, Trial

_NUM_RESAMPLES = 2000


class CrossedBootstrap:
    """Draws listeners and sentences anew, both with replacement and independently of each other.

    Ratings by one listener, and of one sentence, resemble each other; drawing ratings one by one would take each for
    new evidence. An answer counts as often as its listener times as often as its sentence was drawn (the pigeonhole
    bootstrap: Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1). One object uses the same draws for
    everything, so that differences of its means are paired.
    """

    def __init__(
        self, num_listeners: int, num_sentences: int, num_resamples: int = _NUM_RESAMPLES, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        shape = (num_listeners, num_sentences)
        self._listeners, self._sentences = (  # [R, L] and [R, S]: how often each was drawn
            rng.multinomial(n, np.full(n, 1 / n), size=num_resamples) for n in shape
        )

    def means(self, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Sums and numbers of ratings, both ``[L, S]`` -> means ``[R]``; nan where a draw has no rating."""
        total, number = (((self._listeners @ matrix) * self._sentences).sum(1) for matrix in (sums, counts))
        with np.errstate(invalid="ignore"):
            return total / number


def krippendorff_alpha(units: Sequence[Sequence[float]]) -> float | None:
    """Agreement on ordered values: 1 for perfect, 0 for chance; None if there is nothing to disagree on.

    units: for each thing rated, the values that it got, from any number of raters; those with one value do not count.
    Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability", ordinal metric.
    """
    units = [unit for unit in units if len(unit) > 1]
    values = sorted({value for unit in units for value in unit})
    place = {value: index for index, value in enumerate(values)}
    together = np.zeros((len(values), len(values)))  # how often two values meet in a unit
    for unit in units:
        counts = np.bincount([place[value] for value in unit], minlength=len(values)).astype(float)
        together += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    totals = together.sum(axis=1)
    middles = np.cumsum(totals) - totals / 2
    distance = (middles[:, None] - middles[None, :]) ** 2
    by_chance = float((np.outer(totals, totals) * distance).sum())
    return 1 - float((together * distance).sum()) * (totals.sum() - 1) / by_chance if by_chance else None


def summarize_listening(listeners: Sequence[Rater], key: Key) -> dict[str, Any]:
    """Scores, differences, preferences and agreement of these listeners, JSON-ready; repeated trials do not count."""
    trials = [(index, trial) for index, one in enumerate(listeners) for trial in one.trials if not trial.repeated]
    mos = [(index, trial) for index, trial in trials if trial.part == MOS]
    # Pairs with the low anchor only check the listener.
    pairs = [(index, trial) for index, trial in trials if trial.part == AB and ANCHOR not in trial.systems]
    sentences = sorted({trial.sentence for _, trial in trials})
    bootstrap = CrossedBootstrap(len(listeners), len(sentences))

    def answers(of: Iterable[tuple[int, Trial]], value: Callable[[Trial], float]) -> _Answers:
        sums = np.zeros((len(listeners), len(sentences)))
        counts = np.zeros_like(sums)
        for index, trial in of:
            cell = index, sentences.index(trial.sentence)
            sums[cell] += value(trial)
            counts[cell] += 1
        return _Answers(sums, counts, bootstrap)

    summary: dict[str, Any] = {"num_listeners": len(listeners), "num_sentences": len(sentences)}
    if mos:
        scored = {
            scale: {
                name: answers([a for a in mos if a[1].systems == (name,)], partial(_score, scale))
                for name in key.conditions
            }
            for scale in SCALES
        }
        summary["scores"] = [
            {
                "system": name,
                "num_ratings": int(scored["quality"][name].counts.sum()),
                **{scale: asdict(scored[scale][name].estimate()) for scale in SCALES},
            }
            for name in key.conditions
        ]
        summary["differences"] = [row for scale in SCALES for row in _differences(scale, scored[scale])]
    if pairs:
        compared = {}
        for couple in combinations(key.systems, 2):
            those = [(index, trial) for index, trial in pairs if set(trial.systems) == set(couple)]
            points = answers(those, partial(_point, couple[0]))
            compared[couple] = (Counter(trial.winner for _, trial in those), points)
        summary["preferences"] = _preferences(compared)
    summary["agreement"] = _agreement(mos, pairs)
    return summary


def _score(scale: str, trial: Trial) -> float:
    return trial.scores[scale]


def _point(system: str, trial: Trial) -> float:
    """1 where the system won, half for no difference."""
    return 0.5 if trial.winner is None else float(trial.winner == system)


@dataclass(frozen=True)
class _Answers:
    """Sums and numbers of answers, both ``[L, S]``: listeners by sentences."""

    sums: np.ndarray
    counts: np.ndarray
    bootstrap: CrossedBootstrap

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.counts.sum())

    def draws(self) -> np.ndarray:
        return self.bootstrap.means(self.sums, self.counts)

    def estimate(self) -> Estimate:
        return percentile_interval(self.mean, self.draws())

    def sentence_means(self) -> np.ndarray:
        """``[S]``; nan for a sentence without an answer."""
        with np.errstate(invalid="ignore"):
            return self.sums.sum(axis=0) / self.counts.sum(axis=0)


def _differences(scale: str, scored: Mapping[str, _Answers]) -> list[dict[str, Any]]:
    """Every two conditions but the low anchor: bootstrap interval, and Wilcoxon's test over the sentences' means."""
    rows = []
    for first, second in combinations([name for name in scored if name != ANCHOR], 2):
        one, other = scored[first], scored[second]
        means = np.stack([one.sentence_means(), other.sentence_means()])
        means = means[:, ~np.isnan(means).any(axis=0)]  # a listener may get a part of the sentences only
        rows.append(
            {
                "scale": scale,
                "systems": [first, second],
                "difference": asdict(percentile_interval(one.mean - other.mean, one.draws() - other.draws())),
                "num_sentences": means.shape[1],
                "p": signed_rank_test(*means),
            }
        )
    return _with_holm(rows)


def _preferences(compared: Mapping[tuple[str, str], tuple[Counter[str | None], _Answers]]) -> list[dict[str, Any]]:
    """Two systems each: how often each won, the exact binomial test without ties, and an interval that knows of clusters."""
    rows = []
    for (first, second), (wins, points) in compared.items():
        decided = wins[first] + wins[second]
        share, p = exact_share(wins[first], decided) if decided else (None, 1.0)
        rows.append(
            {
                "systems": [first, second],
                "wins": [wins[first], wins[second]],
                "ties": wins[None],
                "share": asdict(share) if share else None,
                "share_ties_half": asdict(points.estimate()),
                "p": p,
            }
        )
    return _with_holm(rows)


def _with_holm(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    corrected = holm({str(index): row["p"] for index, row in enumerate(rows)})
    return [{**row, "p_holm": corrected[str(index)]} for index, row in enumerate(rows)]


def _agreement(mos: Sequence[tuple[int, Trial]], pairs: Sequence[tuple[int, Trial]]) -> dict[str, float | None]:
    """Krippendorff's alpha for each scale and for the preferences; without the low anchor, on which all agree."""
    found = {}
    heard = [trial for _, trial in mos if trial.systems != (ANCHOR,)]
    for scale in SCALES if mos else ():
        found[scale] = krippendorff_alpha(_units((trial.clips, trial.scores[scale]) for trial in heard))
    if pairs:
        verdicts = ((tuple(sorted(t.clips)), _side(t)) for _, t in pairs)
        found["preference"] = krippendorff_alpha(_units(verdicts))
    return found


def _side(trial: Trial) -> float:
    """-1, 0 or 1, whichever way round the pair was offered."""
    if trial.winner is None:
        return 0
    return 1 if trial.winner == max(trial.systems) else -1


def _units(values: Iterable[tuple[tuple[str, ...], float]]) -> list[list[float]]:
    units: dict[tuple[str, ...], list[float]] = {}
    for thing, value in values:
        units.setdefault(thing, []).append(value)
    return list(units.values())
