"""What is measured of a clip, each as a ratio of sums over clips: one list for summaries and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from voicegraft.evaluation.metrics.prosody import MIN_PAUSE_SEC
from voicegraft.evaluation.metrics.rates import Estimate, bootstrap_difference, bootstrap_ratio
from voicegraft.evaluation.metrics.significance import distance, wilson

Row = Mapping[str, Any]
Parts = tuple[float, float]  # top and bottom of a ratio of sums; the bottom of a mean is 1

FAULTS = ("runaway", "repeat", "skip", "truncation", "noise", "stall")  # kinds that a judge or a guard tells


@dataclass(frozen=True)
class Measure:
    """One number of a set of clips: the sum of tops over the sum of bottoms, of the clips that have it."""

    name: str  # key in the summary
    title: str  # column of a table
    digits: int  # after the point
    parts: Callable[[Row], Parts | None]
    better: int = 0  # 1: more is better, -1: less is better, 0: near the recordings is better
    event: float = 0.0  # what the tops count grows by at least, where it counts events; 0 where it does not


def _mean_of(value: Callable[[Row], float | None]) -> Callable[[Row], Parts | None]:
    def parts(row: Row) -> Parts | None:
        found = value(row)
        return None if found is None else (found, 1.0)

    return parts


def _per_spoken_sec(count: Callable[[Row], float]) -> Callable[[Row], Parts | None]:
    return lambda row: (count(row), row["spoken_sec"]) if row["spoken_sec"] > 0 else None


MEASURES = (
    Measure("wer", "WER", 3, lambda row: (row["word_errors"], row["num_words"]), -1, event=1),
    Measure(
        "wer_per_item",
        "WER, mean over clips",
        3,
        _mean_of(lambda row: row["word_errors"] / row["num_words"] if row["num_words"] else None),
        -1,
    ),
    Measure("cer", "CER", 3, lambda row: (row["char_errors"], row["num_chars"]), -1, event=1),
    Measure(
        "wer_pocketsphinx",
        "WER, pocketsphinx",
        3,
        lambda row: (beside["word_errors"], beside["num_words"]) if (beside := row.get("pocketsphinx")) else None,
        -1,
        event=1,
    ),
    Measure("mos", "MOS", 2, _mean_of(lambda row: row["mos"].get("ovrl")), 1),
    Measure("similarity", "same voice", 3, _mean_of(lambda row: row["similarity"].get(row["voice"])), 1),
    Measure("prompt_similarity", "voice of the prompt", 3, _mean_of(lambda row: row["prompt_similarity"]), 1),
    Measure(
        "rtf",
        "RTF",
        3,
        lambda row: (row["wall_sec"], row["duration_sec"]) if row["wall_sec"] is not None else None,
        -1,
    ),
    Measure("first_audio_sec", "first audio s", 3, _mean_of(lambda row: row["first_audio_sec"]), -1),
    Measure("words_per_sec", "words/s", 2, _per_spoken_sec(lambda row: row["num_words"])),
    Measure("letters_per_sec", "letters/s", 2, _per_spoken_sec(lambda row: len(row["reference"].replace(" ", "")))),
    Measure("pitch_hz", "pitch Hz", 0, _mean_of(lambda row: row["pitch"]["median_hz"])),
    Measure("pitch_iqr_semitones", "pitch range st", 1, _mean_of(lambda row: row["pitch"]["iqr_semitones"])),
    Measure("voiced_share", "voiced", 2, _mean_of(lambda row: row["pitch"]["voiced_share"])),
    Measure("pauses_per_sec", "pauses/s", 2, _per_spoken_sec(lambda row: len(row["pauses_sec"])), event=1),
    Measure("pause_sec", "pause s", 2, lambda row: (sum(row["pauses_sec"]), len(row["pauses_sec"]))),
    Measure("pause_share", "in pauses", 3, _per_spoken_sec(lambda row: sum(row["pauses_sec"])), event=MIN_PAUSE_SEC),
)
BY_NAME = {measure.name: measure for measure in MEASURES}
RATES = ("words_per_sec", "letters_per_sec")
PROSODY = ("pitch_hz", "pitch_iqr_semitones", "voiced_share", "pauses_per_sec", "pause_sec", "pause_share")


def parts_of(measure: Measure, rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Tops and bottoms, both float [N], of the rows that have the measure."""
    found = [parts for row in rows if (parts := measure.parts(row)) is not None]
    tops, bottoms = np.array(found, float).reshape(-1, 2).T
    return tops, bottoms


def values_of(measure: Measure, rows: Sequence[Row]) -> list[float]:
    """One value per clip that has the measure; of pauses, one value per pause."""
    if measure.name == "pause_sec":
        return [pause for row in rows for pause in row["pauses_sec"]]
    tops, bottoms = parts_of(measure, rows)
    return list(tops[bottoms > 0] / bottoms[bottoms > 0])


def estimates(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Every measure that the rows have, as value, low and high (95 %): by bootstrap over clips, rates by Wilson.

    Where no clip has an event (an error, a pause), the bootstrap would end at 0; then the upper end is what the rate were if
    as many clips as Wilson's interval allows had one event each.
    """
    found: dict[str, Estimate] = {}
    for measure in MEASURES:
        tops, bottoms = parts_of(measure, rows)
        if bottoms.sum() > 0:
            found[measure.name] = bootstrap_ratio(tops, bottoms)
            if measure.event and not tops.any():
                unseen = wilson(0, len(tops)).high * len(tops) * measure.event / float(bottoms.sum())
                found[measure.name] = Estimate(0.0, 0.0, unseen)
    found["ran_away"] = wilson(sum(bool(row["ran_away"]) for row in rows), len(rows))
    return {name: asdict(estimate) for name, estimate in found.items()}


def fault_rates(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Kind of fault -> clips that have it (num), of how many (num_clips), and the rate as value, low and high.

    Runaways can be told of every clip, the rest of those in which a judge listened for faults. Without such a judge the rest
    is what speakers reported themselves.
    """
    listened = [row for row in rows if row["faults_judged"]]
    reported = {fault for row in rows for fault in row["faults"]}
    kinds = [fault for fault in FAULTS if listened or fault == "runaway" or fault in reported]
    rates: dict[str, dict[str, float]] = {}
    for kind in [*kinds, *sorted(reported - set(FAULTS))]:
        among = rows if kind == "runaway" else listened or rows
        num = sum(kind in row["faults"] for row in among)
        rates[kind] = {"num": num, "num_clips": len(among), **asdict(wilson(num, len(among)))}
    return rates


def against(rows: Sequence[Row], recorded: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    """Speaking rate, melody and pauses beside the recordings': difference with low and high, and distance.

    The distance is Wasserstein's between the values of single clips (of single pauses for pause_sec).
    """
    found: dict[str, dict[str, float | None]] = {}
    for name in (*RATES, *PROSODY):
        ours, theirs = parts_of(BY_NAME[name], rows), parts_of(BY_NAME[name], recorded)
        if ours[1].sum() > 0 and theirs[1].sum() > 0:
            difference = bootstrap_difference(theirs, ours)
            far = distance(values_of(BY_NAME[name], rows), values_of(BY_NAME[name], recorded))
            found[name] = {
                "difference": difference.value, "low": difference.low, "high": difference.high, "distance": far,
            }  # fmt: skip
    return found
