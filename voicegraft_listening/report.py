"""The report of a listening test: with all raters and after exclusion, and why anybody or anything was left out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.reports import document as doc
from voicegraft.evaluation.reports.document import Document, Facts, Section, Table
from voicegraft.evaluation.reports.summary import environment
from voicegraft_listening.page import SCALES
from voicegraft_listening.results import Rules, broken_rules, read_key, read_results
from voicegraft_listening.scores import summarize_listening

_FEW_LISTENERS = 8  # below, intervals are too narrow (docs/listening.md)


def score_listening_test(key_path: Path, results: Sequence[Path], out: Path, rules: Rules) -> dict[str, Any]:
    """Reads the key and the results, writes out/report.json, .md and .html and returns the first.

    Raises VoicegraftError if the key cannot be read or no results file can be used.
    """
    key = read_key(key_path)
    listeners, rejected = read_results(results, key)
    if not listeners:
        reasons = "; ".join(f"{Path(one.file).name}: {one.reason}" for one in rejected)
        raise VoicegraftError(f"expected at least one results file of this test, none can be used: {reasons}")
    broken = {one.id: broken_rules(one, rules) for one in listeners}
    kept = [one for one in listeners if not broken[one.id]]
    report = {
        "about": {
            "test": key.test,
            "date": time.strftime("%Y-%m-%d"),
            "files": len(results),
            "files not used": len(rejected),
            "listeners": len(listeners),
            "listeners excluded": len(listeners) - len(kept),
            "heard with": dict(Counter(one.device for one in listeners)),
        },
        "environment": environment(("numpy", "scipy")),
        "rules": asdict(rules),
        "after_exclusion": summarize_listening(kept, key) if kept else None,
        "all_raters": summarize_listening(listeners, key),
        "raters": [
            {
                "listener": one.id,
                "file": one.file,
                "device": one.device,
                "broken": [asdict(rule) for rule in broken[one.id]],
            }
            for one in listeners
        ],
        "rejected": [asdict(one) for one in rejected],
        "trials": [{"listener": one.id, **asdict(trial)} for one in listeners for trial in one.trials],
    }
    doc.write_document(out, "report", _document(report), report)
    return report


def _document(report: Mapping[str, Any]) -> Document:
    after, everybody = report["after_exclusion"], report["all_raters"]
    sections = []
    if after is None:
        sections.append(Section("", ["Every listener broke a rule. There are results with all raters only."]))
    elif after["num_listeners"] < everybody["num_listeners"]:
        sections.append(Section("Results after exclusion", _results(after)))
    title = "Results with all raters"
    if after and after["num_listeners"] == everybody["num_listeners"]:
        title += " (none was excluded)"
    excluded = [
        (rater["listener"], rule["rule"], f"{rule['value']:g}", f"{rule['limit']:g}")
        for rater in report["raters"]
        for rule in rater["broken"]
    ]
    rules = ", ".join(
        f"{name} {'off' if limit is None else format(limit, 'g')}" for name, limit in report["rules"].items()
    )
    rejected = [(Path(one["file"]).name, one["reason"]) for one in report["rejected"]]
    sections += [
        Section(title, _results(everybody)),
        Section(
            "Listeners who were excluded",
            [Table(("listener", "rule", "value", "limit"), excluded), f"Rules and their limits: {rules}."],
        ),
        Section("Files that were not used", [Table(("file", "reason"), rejected)]),
        Section("About", [Facts({**report["about"], **report["environment"]})]),
    ]
    return Document("Listening test", sections)


def _results(summary: Mapping[str, Any]) -> list[str | Table]:
    parts: list[str | Table] = [f"{summary['num_listeners']} listeners, {summary['num_sentences']} sentences."]
    if summary["num_listeners"] < _FEW_LISTENERS:
        parts.append(f"With fewer than {_FEW_LISTENERS} listeners the intervals are too narrow.")
    names = {scale: SCALES[scale][0].lower() for scale in SCALES}
    if "scores" in summary:
        rows = [
            (row["system"], str(row["num_ratings"]), *(doc.interval(row[scale], 2) for scale in SCALES))
            for row in summary["scores"]
        ]
        parts.append(Table(("mean opinion score", "ratings", *(f"{name} [95 %]" for name in names.values())), rows))
        gaps = [
            (" − ".join(row["systems"]), names[row["scale"]], doc.interval(row["difference"], 2, "+"),
             str(row["num_sentences"]), doc.p_value(row["p"]),
         doc.p_value(row["p_holm"]))
            for row in summary["differences"]
        ]  # fmt: skip
        columns = ("difference", "scale", "mean [95 %]", "sentences", "p (Wilcoxon)", "p (Holm)")
        parts += [Table(columns, gaps)] if gaps else []
    if "preferences" in summary:
        parts.append(_preferences(summary["preferences"]))
    agreed = ", ".join(
        f"{names.get(name, name)} {doc.decimal(value, 2)}" for name, value in summary["agreement"].items()
    )
    parts.append(f"Agreement (Krippendorff's alpha, ordinal, without the low anchor): {agreed}.")
    return parts


def _preferences(found: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        (row["systems"][0], row["systems"][1], str(row["wins"][0]), str(row["wins"][1]), str(row["ties"]),
         doc.interval(row["share"], 2), doc.interval(row["share_ties_half"], 2), doc.p_value(row["p"]),
         doc.p_value(row["p_holm"]))
        for row in found
    ]  # fmt: skip
    columns = (
        "A", "B", "A preferred", "B preferred", "no difference", "share of A without ties [exact 95 %]",
        "share of A, ties half [bootstrap 95 %]", "p (binomial)", "p (Holm)",
    )  # fmt: skip
    return Table(columns, rows)
