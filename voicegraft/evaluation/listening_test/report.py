"""The report of a listening test: with all raters and after exclusion, and why anybody or anything was left out."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.evaluation.listening_test.page import SCALES
from voicegraft.evaluation.listening_test.results import Rules, broken_rules, read_key, read_results
from voicegraft.evaluation.listening_test.scores import summarize_listening
from voicegraft.evaluation.reports.summary import environment, fact_list, markdown_table

_FEW_LISTENERS = 8  # below, intervals are too narrow (docs/listening.md)


def score_listening_test(key_path: Path, results: Sequence[Path], out: Path, rules: Rules) -> dict[str, Any]:
    """Reads the key and the results, writes out/report.json and out/report.md and returns the former.

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
    write_text(out / "report.json", json.dumps(report, indent=1, ensure_ascii=False))
    write_text(out / "report.md", listening_markdown(report))
    return report


def listening_markdown(report: Mapping[str, Any]) -> str:
    after, everybody = report["after_exclusion"], report["all_raters"]
    sections = ["# Listening test"]
    if after is None:
        sections.append("**Every listener broke a rule.** There are results with all raters only.")
    elif after["num_listeners"] < everybody["num_listeners"]:
        sections += ["## Results after exclusion", *_results(after)]
    title = "## Results with all raters"
    if after and after["num_listeners"] == everybody["num_listeners"]:
        title += " (none was excluded)"
    sections += [title, *_results(everybody)]
    sections.append("## Listeners who were excluded")
    excluded = [
        (rater["listener"], rule["rule"], f"{rule['value']:g}", f"{rule['limit']:g}")
        for rater in report["raters"]
        for rule in rater["broken"]
    ]
    columns = ("listener", "rule", "value", "limit")
    sections.append(markdown_table(columns, excluded) if excluded else "None.")
    rules = ", ".join(
        f"{name} {'off' if limit is None else format(limit, 'g')}" for name, limit in report["rules"].items()
    )
    sections.append(f"Rules and their limits: {rules}.")
    sections.append("## Files that were not used")
    refused = [(Path(one["file"]).name, one["reason"]) for one in report["rejected"]]
    sections.append(markdown_table(("file", "reason"), refused) if refused else "None.")
    sections += ["## About", fact_list({**report["about"], **report["environment"]})]
    return "\n\n".join(sections) + "\n"


def _results(summary: Mapping[str, Any]) -> list[str]:
    sections = [f"{summary['num_listeners']} listeners, {summary['num_sentences']} sentences."]
    if summary["num_listeners"] < _FEW_LISTENERS:
        sections.append(f"With fewer than {_FEW_LISTENERS} listeners the intervals are too narrow.")
    if "scores" in summary:
        titles = [f"{SCALES[scale][0].lower()} [95 %]" for scale in SCALES]
        rows = [
            (row["system"], str(row["num_ratings"]), *(_interval(row[scale]) for scale in SCALES))
            for row in summary["scores"]
        ]
        sections.append(markdown_table(("mean opinion score", "ratings", *titles), rows))
        gaps = [
            (" − ".join(row["systems"]), SCALES[row["scale"]][0].lower(), _interval(row["difference"], "+"),
             str(row["num_sentences"]), _p(row["p"]), _p(row["p_holm"]))
            for row in summary["differences"]
        ]  # fmt: skip
        columns = ("difference", "scale", "mean [95 %]", "sentences", "p (Wilcoxon)", "p (Holm)")
        sections += [markdown_table(columns, gaps)] if gaps else []
    if "preferences" in summary:
        sections.append(_preferences(summary["preferences"]))
    agreed = ", ".join(
        f"{SCALES[name][0].lower() if name in SCALES else name} {'-' if value is None else format(value, '.2f')}"
        for name, value in summary["agreement"].items()
    )
    sections.append(f"Agreement (Krippendorff's alpha, ordinal, without the low anchor): {agreed}.")
    return sections


def _preferences(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (row["systems"][0], row["systems"][1], str(row["wins"][0]), str(row["wins"][1]), str(row["ties"]),
         _interval(row["share"]), _interval(row["share_ties_half"]), _p(row["p"]), _p(row["p_holm"]))
        for row in found
    ]  # fmt: skip
    columns = (
        "A", "B", "A preferred", "B preferred", "no difference", "share of A without ties [exact 95 %]",
        "share of A, ties half [bootstrap 95 %]", "p (binomial)", "p (Holm)",
    )  # fmt: skip
    return markdown_table(columns, rows)


def _interval(estimate: Mapping[str, float] | None, sign: str = "") -> str:
    if estimate is None:
        return "-"
    return "{value:{s}.2f} [{low:{s}.2f}, {high:{s}.2f}]".format(s=sign, **estimate)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
