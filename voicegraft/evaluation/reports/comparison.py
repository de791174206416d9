"""Two evaluations of speech side by side, item by item: differences with intervals, tests corrected for their number.

    voicegraft evaluate compare A/report.json B/report.json --out OUT

Writes OUT/comparison.json, .md and .html. Both must have been judged alike and share items: the same prompts read by two packs,
by a pack and another system (evaluate speech --audio), or by one pack before and after a change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voicegraft.core.command_line import read_options
from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.metrics.measures import BY_NAME, FAULTS, Row
from voicegraft.evaluation.metrics.rates import Estimate, bootstrap_difference, ratio
from voicegraft.evaluation.metrics.significance import holm, mcnemar_test, signed_rank_test, swap_test
from voicegraft.evaluation.reports.document import Document, Facts, Section, Table, interval, p_value, write_document
from voicegraft.evaluation.reports.summary import environment

SWAP, SIGNED_RANK, MCNEMAR = "approximate randomisation", "Wilcoxon signed rank", "McNemar exact"
# Ratios of sums are tested as such; scores of single clips, whose size means little, by their ranks.
_TESTS = {
    "wer": SWAP, "wer_pocketsphinx": SWAP, "cer": SWAP, "mos": SIGNED_RANK, "similarity": SIGNED_RANK,
    "prompt_similarity": SIGNED_RANK, "letters_per_sec": SWAP, "rtf": SWAP,
}  # fmt: skip
_ALPHA = 0.05


@dataclass(frozen=True)
class CompareConfig:
    a: Path  # report.json of voicegraft evaluate speech, or its folder
    b: Path  # the other
    out: Path  # folder for the comparison


def main(argv: list[str] | None = None) -> None:
    config = read_options(CompareConfig, argv, __doc__, "voicegraft evaluate compare", positional=("a", "b"))
    print(write_comparison(config.out, compare(read_report(config.a), read_report(config.b))))


def read_report(path: Path) -> dict[str, Any]:
    """The report.json of `voicegraft evaluate speech`, or of the folder that holds it."""
    path = path / "report.json" if path.is_dir() else path
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        whole = all({"text", "faults", "pitch"} <= row.keys() for row in report["rows"]) and report["about"] is not None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VoicegraftError(
            f"cannot read {path} as a report of speech ({error}); expected report.json of voicegraft evaluate speech"
        ) from error
    if not whole:
        raise VoicegraftError(
            f"{path} was written by an earlier version and lacks measures; evaluate into a new folder"
        )
    return dict(report)


def compare(report_a: Mapping[str, Any], report_b: Mapping[str, Any]) -> dict[str, Any]:
    """What changes from A to B in the items of the same stage, voice, id and text; differences are B minus A.

    Raises VoicegraftError, with the reason, if other judges were at work or no item is in both.
    """
    judges_a, judges_b = (report["about"].get("judges") or {} for report in (report_a, report_b))
    unlike = {role for role in {*judges_a, *judges_b} if judges_a.get(role) != judges_b.get(role)}
    if "faults" not in judges_a or "faults" not in judges_b:
        unlike -= {"faults"}  # faults are compared only where somebody listened on both sides
    if "second recognizer" not in judges_a or "second recognizer" not in judges_b:
        unlike -= {"second recognizer"}  # nor words that only one side had heard twice
    if unlike:
        raise VoicegraftError(
            f"the reports were judged differently, which no pairing can undo: by {_listed(judges_a, unlike)} and by "
            f"{_listed(judges_b, unlike)}; evaluate one of them again with the other's judges"
        )
    rows_a, rows_b = ({_key(row): row for row in report["rows"]} for report in (report_a, report_b))
    shared = [key for key in rows_a if key in rows_b]
    if not shared:
        raise VoicegraftError(f"the reports share no item: {_why_apart(list(rows_a), list(rows_b))}")
    num_only_a, num_only_b = len(rows_a) - len(shared), len(rows_b) - len(shared)
    # One human recording judged twice tells nothing, and its tests would make Holm's correction stricter for the others.
    shared = [key for key in shared if key[0] != "recordings"] or shared
    # Speed on two machines says nothing about two systems.
    same_machine = report_a["environment"].get("cpu") == report_b["environment"].get("cpu")
    names = [name for name in _TESTS if name != "rtf" or same_machine]
    groups = [
        _compare_group(stage, voice, [(rows_a[key], rows_b[key]) for key in shared if key[:2] == (stage, voice)], names)
        for stage, voice in dict.fromkeys(key[:2] for key in shared)
    ]
    tested = {
        f"{g}/{name}": measure["p"] for g, group in enumerate(groups) for name, measure in group["measures"].items()
    }
    for place, p_holm in holm(tested).items():
        g, _, name = place.partition("/")
        groups[int(g)]["measures"][name]["p_holm"] = p_holm
    return {
        "about": {"a": report_a["about"], "b": report_b["about"]},
        "environment": environment(),
        "num_only_a": num_only_a,
        "num_only_b": num_only_b,
        "groups": groups,
    }


def _key(row: Row) -> tuple[str, str, str, str]:
    return row["stage"], row["voice"], row["id"], row["text"]


def _why_apart(keys_a: Sequence[tuple[str, ...]], keys_b: Sequence[tuple[str, ...]]) -> str:
    """The first of stage, voice, id and text up to which nothing is shared."""
    for depth, part in enumerate(("stage", "voice", "id", "text"), start=1):
        if not {key[:depth] for key in keys_a} & {key[:depth] for key in keys_b}:
            found = [", ".join(dict.fromkeys(repr(key[depth - 1]) for key in keys[:3])) for keys in (keys_a, keys_b)]
            where = "" if depth == 1 else " where all before it agrees"
            return f"no {part} is in both{where}; A has {found[0] or 'nothing'}, B has {found[1] or 'nothing'}"
    raise AssertionError("they do share an item")


def _compare_group(stage: str, voice: str, pairs: Sequence[tuple[Row, Row]], names: Sequence[str]) -> dict[str, Any]:
    measures: dict[str, Any] = {}
    for name in names:
        test, parts = _TESTS[name], BY_NAME[name].parts
        both = [(a, b) for row_a, row_b in pairs if (a := parts(row_a)) is not None and (b := parts(row_b)) is not None]
        sides = np.array(both, float).reshape(-1, 2, 2).transpose(1, 2, 0)  # A and B, each tops and bottoms, of N items
        if not (sides[:, 1].sum(-1) > 0).all():
            continue
        ours, theirs = ((tops, bottoms) for tops, bottoms in sides)
        value_a, value_b, difference = ratio(ours), ratio(theirs), bootstrap_difference(ours, theirs, paired=True)
        measures[name] = {
            "num_items": len(both), "a": value_a, "b": value_b, "difference": asdict(difference),
            "p": swap_test(ours, theirs) if test == SWAP else signed_rank_test(ours[0], theirs[0]), "test": test,
        }  # fmt: skip
    listened = [pair for pair in pairs if all(row["faults_judged"] for row in pair)]
    kinds = {fault for pair in listened for row in pair for fault in row["faults"]} - {"runaway"}
    for name in ("ran_away", *sorted(kinds, key=lambda kind: (kind not in FAULTS, kind))):
        flags = [(_has(name, row_a), _has(name, row_b)) for row_a, row_b in (pairs if name == "ran_away" else listened)]
        only_a, only_b = sum(a and not b for a, b in flags), sum(b and not a for a, b in flags)
        measures[name] = {
            "num_items": len(flags), "a": sum(a for a, _ in flags) / len(flags), "b": sum(b for _, b in flags) / len(flags),
            "num_only_a": only_a, "num_only_b": only_b, "p": mcnemar_test(only_a, only_b), "test": MCNEMAR,
        }  # fmt: skip
    return {"stage": stage, "voice": voice, "num_items": len(pairs), "measures": measures}


def _has(name: str, row: Row) -> bool:
    return bool(row["ran_away"]) if name == "ran_away" else name in row["faults"]


def write_comparison(out: Path, comparison: Mapping[str, Any]) -> str:
    """Writes out/comparison.json, .md and .html; returns the Markdown."""
    columns = ("measure", "A", "B", "B - A [95 %]", "p", "p (Holm)", "verdict", "test")
    sections = [Section("", [Facts({side.upper(): _who(comparison["about"][side]) for side in "ab"})])]
    for group in comparison["groups"]:
        table = Table(columns, [_line(name, measure) for name, measure in group["measures"].items()])
        sections.append(Section(f"{group['stage']}, {group['voice']}: {group['num_items']} items", [table]))
    left = comparison["num_only_a"], comparison["num_only_b"]
    note = (
        "Items are paired by stage, voice, id and text"
        + (f"; {left[0]} are only in A and {left[1]} only in B." if any(left) else "; every item is in both.")
        + " Intervals are bootstrapped over items. A verdict is given where p after Holm's correction for all tests on this"
        f" page is below {_ALPHA}; no verdict does not mean that both are alike."
    )
    sections += [Section("How", [note]), Section("Measured on", [Facts(comparison["environment"])])]
    return write_document(out, "comparison", Document("Speech, A against B", sections), comparison)


def _line(name: str, measure: Mapping[str, Any]) -> tuple[str, ...]:
    if "difference" in measure:
        title, digits, better = BY_NAME[name].title, BY_NAME[name].digits, BY_NAME[name].better
        estimate = Estimate(**measure["difference"])
        change, difference = estimate.value, interval(measure["difference"], digits)
    else:
        title, digits, better = name.replace("_", " "), 3, -1
        change = measure["b"] - measure["a"]
        difference = f"{change:+.3f} (only A {measure['num_only_a']}, only B {measure['num_only_b']})"
    verdict = "-"
    if measure["p_holm"] < _ALPHA:
        verdict = ("B is more" if change > 0 else "A is more") if not better else "B" if change * better > 0 else "A"
        verdict += " is better" if better else ""
    return (
        title, f"{measure['a']:.{digits}f}", f"{measure['b']:.{digits}f}", difference,
        p_value(measure["p"]), p_value(measure["p_holm"]), verdict, measure["test"],
    )  # fmt: skip


def _who(about: Mapping[str, Any]) -> str:
    parts = [
        about.get("pack") or "no pack",
        *(f"{name} {about[name]}" for name in ("fingerprint", "date") if about.get(name)),
    ]
    parts += [f"audio of {', '.join(about['audio'])}"] if about.get("audio") else []
    return ", ".join(parts)


def _listed(judges: Mapping[str, str], roles: set[str]) -> str:
    return ", ".join(f"{role} {judges.get(role, 'not named')}" for role in sorted(roles))
