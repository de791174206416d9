"""From per-item rows to a summary per stage and voice, as JSON and Markdown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import voicegraft
from voicegraft.core.files import write_text
from voicegraft.evaluation.judges import MOS_KEYS
from voicegraft.evaluation.metrics import bootstrap_mean, bootstrap_ratio
from voicegraft.evaluation.speech import STAGES, Row

_PACKAGES = (
    "torch", "numpy", "pocketsphinx", "jiwer", "speechmos", "onnxruntime", "resemblyzer",
)  # fmt: skip
_COLUMNS = (
    "stage", "voice", "clips", "WER [95 %]", "CER", "MOS [95 %]", "sig", "bak", "P.808", "same voice",
    "other voice", "RTF", "first audio ms (median, p95)", "words/s", "letters/s", "ran away",
)  # fmt: skip


def environment(packages: Sequence[str] = _PACKAGES) -> dict[str, Any]:
    """What the numbers were measured on: machine, Python and the versions of the packages that matter."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "packages": {"voicegraft": voicegraft.__version__, **{name: _version(name) for name in packages}},
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def summarize(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One summary per stage and voice, stages in the order of STAGES, voices in order of appearance.

    Rates are ratios of sums over items (a long clip weighs more); the opinion scores and similarities are
    means over items. What no item has is None.
    """
    voices = list(dict.fromkeys(row["voice"] for row in rows))
    groups = {
        (stage, voice): [row for row in rows if (row["stage"], row["voice"]) == (stage, voice)]
        for stage in STAGES
        for voice in voices
    }
    return [_summary(stage, voice, group) for (stage, voice), group in groups.items() if group]


def _summary(stage: str, voice: str, rows: Sequence[Row]) -> dict[str, Any]:
    def total(name: str, among: Sequence[Row] = rows) -> float:
        return sum(row[name] for row in among)

    def ratio(top: float, bottom: float) -> float | None:
        return top / bottom if bottom else None

    scored = [row["mos"] for row in rows if row["mos"]]
    alike = [row["similarity"] for row in rows if row["similarity"]]
    timed = [row for row in rows if row["wall_sec"] is not None]
    first_ms = [1000 * row["first_audio_sec"] for row in rows if row["first_audio_sec"] is not None]
    spoken = [row for row in rows if row["spoken_sec"] > 0]
    voices_heard = alike[0] if alike else {}
    num_letters = sum(len(row["reference"].replace(" ", "")) for row in spoken)
    wer = bootstrap_ratio([row["word_errors"] for row in rows], [row["num_words"] for row in rows])
    return {
        "stage": stage,
        "voice": voice,
        "num_clips": len(rows),
        "num_scored": len(scored),
        "wer": asdict(wer),
        "cer": ratio(total("char_errors"), total("num_chars")),
        "mos": {key: asdict(bootstrap_mean([score[key] for score in scored])) for key in MOS_KEYS if scored},
        "similarity": {name: float(np.mean([one[name] for one in alike])) for name in voices_heard},
        "rtf": ratio(total("wall_sec", timed), total("duration_sec", timed)),
        "first_audio_ms": {"median": float(np.median(first_ms)), "p95": float(np.quantile(first_ms, 0.95))}
        if first_ms
        else None,
        "duration_sec": total("duration_sec"),
        "words_per_sec": ratio(total("num_words", spoken), total("spoken_sec", spoken)),
        "letters_per_sec": ratio(num_letters, total("spoken_sec", spoken)),
        "num_ran_away": sum(row["ran_away"] for row in rows),
    }


def worst_items(rows: Sequence[Row], num_items: int = 10) -> list[Row]:
    """The items with the most words wrong for their length; of the stage `speech` if it was run."""

    def rank(row: Row) -> tuple[float, str]:
        return -row["word_errors"] / max(row["num_words"], 1), row["id"]

    ranked = sorted([row for row in rows if row["stage"] == "speech"] or rows, key=rank)
    return [row for row in ranked if row["word_errors"] or row["ran_away"]][:num_items]


def write_report(out: Path, rows: Sequence[Row], about: Mapping[str, Any]) -> dict[str, Any]:
    """Writes out/report.json (about, environment, summary, every row) and out/report.md; returns the former.

    about: what was evaluated, JSON-ready, such as the pack and its fingerprint.
    """
    report = {
        "about": dict(about),
        "environment": environment(),
        "summary": summarize(rows),
        "rows": list(rows),
    }
    write_text(out / "report.json", json.dumps(report, indent=1, ensure_ascii=False))
    write_text(out / "report.md", to_markdown(report))
    return report


def to_markdown(report: Mapping[str, Any]) -> str:
    """The summary as one table, then the worst items, then what was evaluated and where."""
    recorded = {s["voice"]: s for s in report["summary"] if s["stage"] == "recordings"}
    table = [_table_row(summary, recorded.get(summary["voice"])) for summary in report["summary"]]
    worst = [
        (row["stage"], row["voice"], row["id"], f"{row['word_errors']}/{row['num_words']}",
         row["status"] + (", ran away" if row["ran_away"] and row["status"] == "ok" else ""),
         row["reference"], row["heard"])
        for row in worst_items(report["rows"])
    ]  # fmt: skip
    worst_columns = ("stage", "voice", "item", "errors", "status", "text", "heard")
    facts = {**report["about"], **report["environment"]}
    sections = [
        "# Speech evaluation",
        markdown_table(_COLUMNS, table),
        "MOS is predicted (DNSMOS); voices are compared by the cosine with the mean embedding of the"
        " recordings held back from training; a percentage after a speaking rate is how far it lies from the"
        " recordings'.",
        "## Worst items",
        markdown_table(worst_columns, worst) if worst else "No item has an error.",
        "## Measured on",
        fact_list(facts),
    ]
    return "\n\n".join(sections) + "\n"


def _table_row(summary: Mapping[str, Any], recorded: Mapping[str, Any] | None) -> tuple[str, ...]:
    def with_interval(estimate: Mapping[str, float] | None, digits: int) -> str:
        if estimate is None:
            return "-"
        return "{value:.{d}f} [{low:.{d}f}, {high:.{d}f}]".format(d=digits, **estimate)

    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    def rate(name: str) -> str:
        value, human = summary[name], recorded[name] if recorded else None
        if value is None or not human or summary["stage"] == "recordings":
            return number(value, 2)
        return f"{value:.2f} ({100 * (value / human - 1):+.0f} %)"

    mos, alike = summary["mos"], summary["similarity"]
    others = [f"{value:.3f} ({name})" for name, value in alike.items() if name != summary["voice"]]
    first = summary["first_audio_ms"]
    return (
        summary["stage"], summary["voice"], str(summary["num_clips"]), with_interval(summary["wer"], 3),
        number(summary["cer"], 3), with_interval(mos.get("ovrl"), 2),
        *(number(mos[key]["value"] if mos else None, 2) for key in ("sig", "bak", "p808")),
        number(alike.get(summary["voice"]), 3), ", ".join(others) or "-", number(summary["rtf"], 3),
        f"{first['median']:.0f}, {first['p95']:.0f}" if first else "-",
        rate("words_per_sec"), rate("letters_per_sec"), f"{summary['num_ran_away']}/{summary['num_clips']}",
    )  # fmt: skip


def fact_list(facts: Mapping[str, Any]) -> str:
    """Facts as a list in Markdown, without those that are None."""
    return "\n".join(f"- {name}: {_fact(value)}" for name, value in facts.items() if value is not None)


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(part)}" for name, part in value.items())
    return ", ".join(map(_fact, value)) if isinstance(value, (list, tuple)) else str(value)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, with whatever its cells hold."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join(map(line, (columns, ["---"] * len(columns), *rows)))
