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
from voicegraft.core.ledger import Row
from voicegraft.evaluation.metrics.measures import BY_NAME, PROSODY, against, estimates, fault_rates
from voicegraft.evaluation.metrics.rates import bootstrap_mean
from voicegraft.evaluation.speech.items import STAGES

_PACKAGES = (
    "torch", "transformers", "numpy", "scipy", "pocketsphinx", "jiwer", "speechmos", "onnxruntime", "resemblyzer",
)  # fmt: skip
_COLUMNS = (
    "stage", "voice", "clips", "WER [95 %]", "CER [95 %]", "MOS [95 %]", "sig", "bak", "P.808", "same voice [95 %]",
    "other voice", "RTF", "first audio ms (median, p95)", "words/s", "letters/s", "ran away",
)  # fmt: skip
_PROSODY_COLUMNS = ("stage", "voice", *(f"{BY_NAME[name].title} [95 %]" for name in PROSODY), "longest pauses s (p95)")


def environment(packages: Sequence[str] = _PACKAGES) -> dict[str, Any]:
    """What the numbers were measured on: machine, Python and the versions of the packages that matter."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,  # of everything that runs
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
    means over items. What no item has is None. `estimates` has every measure again, with its 95 % interval;
    `against_recordings` is there where the voice has recordings.
    """
    voices = list(dict.fromkeys(row["voice"] for row in rows))
    groups = {
        (stage, voice): [row for row in rows if (row["stage"], row["voice"]) == (stage, voice)]
        for stage in STAGES
        for voice in voices
    }
    return [
        _summary(stage, voice, group, groups["recordings", voice] if stage != "recordings" else [])
        for (stage, voice), group in groups.items()
        if group
    ]


def _summary(stage: str, voice: str, rows: Sequence[Row], recorded: Sequence[Row]) -> dict[str, Any]:
    scored = [row["mos"] for row in rows if row["mos"]]
    alike = [row["similarity"] for row in rows if row["similarity"]]
    first_ms = [1000 * row["first_audio_sec"] for row in rows if row["first_audio_sec"] is not None]
    pauses = [pause for row in rows for pause in row["pauses_sec"]]
    measured = estimates(rows)

    def value(name: str) -> float | None:
        return measured[name]["value"] if name in measured else None

    return {
        "stage": stage,
        "voice": voice,
        "num_clips": len(rows),
        "num_scored": len(scored),
        "wer": measured["wer"],
        "cer": value("cer"),
        "mos": {key: asdict(bootstrap_mean([score[key] for score in scored])) for key in (scored[0] if scored else ())},
        "similarity": {name: float(np.mean([one[name] for one in alike])) for name in (alike[0] if alike else ())},
        "rtf": value("rtf"),
        "first_audio_ms": {"median": float(np.median(first_ms)), "p95": float(np.quantile(first_ms, 0.95))}
        if first_ms
        else None,
        "duration_sec": sum(row["duration_sec"] for row in rows),
        "words_per_sec": value("words_per_sec"),
        "letters_per_sec": value("letters_per_sec"),
        "pause_p95_sec": float(np.quantile(pauses, 0.95)) if pauses else None,
        "num_ran_away": sum(row["ran_away"] for row in rows),
        "num_retries": sum(row["num_retries"] for row in rows),
        "faults": fault_rates(rows),
        "estimates": measured,
        "against_recordings": against(rows, recorded) if recorded else None,
    }


def worst_items(rows: Sequence[Row], num_items: int = 10) -> list[Row]:
    """The items with the most words wrong for their length, or a fault; of the stage `speech` if it was run."""

    def rank(row: Row) -> tuple[float, str]:
        return -row["word_errors"] / max(row["num_words"], 1), row["id"]

    ranked = sorted([row for row in rows if row["stage"] == "speech"] or rows, key=rank)
    return [row for row in ranked if row["word_errors"] or row["ran_away"] or row["faults"]][:num_items]


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
    """The summary as tables, then the worst items, then what was evaluated and where."""
    summaries = report["summary"]
    recorded = {s["voice"]: s for s in summaries if s["stage"] == "recordings"}
    worst = [
        (row["stage"], row["voice"], row["id"], f"{row['word_errors']}/{row['num_words']}", _ending(row),
         row["reference"], row["heard"])
        for row in worst_items(report["rows"])
    ]  # fmt: skip
    worst_columns = ("stage", "voice", "item", "errors", "ending", "text", "heard")
    protocol = report["about"].get("protocol")
    facts = {**report["about"], "protocol": protocol and protocol["name"], **report["environment"]}
    predictor = report["about"].get("judges", {}).get("mos", "dnsmos")
    sections = [
        "# Speech evaluation",
        markdown_table(_COLUMNS, [_table_row(summary, recorded.get(summary["voice"])) for summary in summaries]),
        f"MOS is predicted ({predictor}); voices are compared by the cosine with the mean embedding of the"
        " recordings held back from training; a percentage after a speaking rate is how far it lies from the"
        " recordings'.",
        *_protocol_section(report),
        "## Melody and pauses",
        markdown_table(_PROSODY_COLUMNS, list(map(_prosody_row, summaries))),
        "In round brackets: the difference to the recordings, and after D the distance (Wasserstein) between the values of"
        " single clips, of single pauses for their durations. Pauses are silences of 0.15 s or more inside a clip.",
        "## Faults",
        *_fault_section(summaries),
        "## Worst items",
        markdown_table(worst_columns, worst) if worst else "No item has an error.",
        "## Measured on",
        fact_list(facts),
    ]
    return "\n\n".join(sections) + "\n"


def with_interval(estimate: Mapping[str, float] | None, digits: int) -> str:
    """`value [low, high]`, or a dash for what was not measured."""
    if estimate is None:
        return "-"
    return "{value:.{d}f} [{low:.{d}f}, {high:.{d}f}]".format(**{**estimate, "d": digits})


def _ending(row: Row) -> str:
    ran_away = ["ran away"] if row["ran_away"] and row["status"] == "ok" else []
    return ", ".join([row["status"], *ran_away, *(fault for fault in row["faults"] if fault != "runaway")])


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _table_row(summary: Mapping[str, Any], recorded: Mapping[str, Any] | None) -> tuple[str, ...]:
    def rate(name: str) -> str:
        value, human = summary[name], recorded[name] if recorded else None
        if value is None or not human or summary["stage"] == "recordings":
            return _number(value, 2)
        return f"{value:.2f} ({100 * (value / human - 1):+.0f} %)"

    mos, alike, measured = summary["mos"], summary["similarity"], summary["estimates"]
    others = [f"{value:.3f} ({name})" for name, value in alike.items() if name != summary["voice"]]
    first = summary["first_audio_ms"]
    return (
        summary["stage"], summary["voice"], str(summary["num_clips"]), with_interval(summary["wer"], 3),
        with_interval(measured.get("cer"), 3), with_interval(mos.get("ovrl"), 2),
        *(_number(mos[key]["value"] if key in mos else None, 2) for key in ("sig", "bak", "p808")),
        with_interval(measured.get("similarity"), 3), ", ".join(others) or "-", _number(summary["rtf"], 3),
        f"{first['median']:.0f}, {first['p95']:.0f}" if first else "-",
        rate("words_per_sec"), rate("letters_per_sec"), f"{summary['num_ran_away']}/{summary['num_clips']}",
    )  # fmt: skip


def _prosody_row(summary: Mapping[str, Any]) -> list[str]:
    against_human = summary["against_recordings"] or {}

    def cell(name: str) -> str:
        digits = BY_NAME[name].digits
        text = with_interval(summary["estimates"].get(name), digits)
        if name not in against_human:
            return text
        beside = against_human[name]
        difference = round(beside["difference"], digits) + 0.0  # no "-0"
        return f"{text} ({difference:+.{digits}f}, D {_number(beside['distance'], digits)})"

    return [summary["stage"], summary["voice"], *map(cell, PROSODY), _number(summary["pause_p95_sec"], 2)]


def _fault_section(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    kinds = list(dict.fromkeys(kind for summary in summaries for kind in summary["faults"]))

    def share(num: int, num_clips: int, estimate: Mapping[str, float]) -> str:
        percent = {name: 100 * estimate[name] for name in ("value", "low", "high")}
        return "{}/{}: {value:.1f} % [{low:.1f}, {high:.1f}]".format(num, num_clips, **percent)

    def cell(summary: Mapping[str, Any], kind: str) -> str:
        fault = summary["faults"].get(kind)
        return share(fault["num"], fault["num_clips"], fault) if fault else "-"

    rows = [
        (s["stage"], s["voice"], share(s["num_ran_away"], s["num_clips"], s["estimates"]["ran_away"]),
         *(cell(s, kind) for kind in kinds), str(s["num_retries"]))
        for s in summaries
    ]  # fmt: skip
    note = (
        "Shares of clips with Wilson's 95 % interval. Ran away: the status is not ok, or the clip is too long for its text;"
        " runaway is the latter alone. A retry is an attempt that the speaker threw away itself, and no failure."
    )
    if not set(kinds) - {"runaway"}:
        note += " Nobody listened for repeats, skips and truncations."
    return [markdown_table(("stage", "voice", "ran away", *kinds, "retries"), rows), note]


def _protocol_section(report: Mapping[str, Any]) -> list[str]:
    protocol = report["about"].get("protocol")
    if protocol is None:
        return []
    rows = [
        (s["stage"], s["voice"], str(s["num_clips"]),
         *(with_interval(s["estimates"].get(name), 3) for name in ("wer_per_item", "wer", "prompt_similarity")))
        for s in report["summary"]
    ]  # fmt: skip
    columns = (
        "stage",
        "voice",
        "clips",
        "WER, mean over clips [95 %]",
        "WER, all words [95 %]",
        "voice of the prompt [95 %]",
    )
    return [f"## As {protocol['name']}", markdown_table(columns, rows), protocol["note"]]


def fact_list(facts: Mapping[str, Any]) -> str:
    """Facts as a list in Markdown, without those that are None."""
    return "\n".join(f"- {name}: {fact(value)}" for name, value in facts.items() if value is not None)


def fact(value: Any) -> str:
    """A JSON value in words; what is not known is left out."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {fact(part)}" for name, part in value.items() if part is not None)
    return ", ".join(map(fact, value)) if isinstance(value, (list, tuple)) else str(value)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, with whatever its cells hold."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join(map(line, (columns, ["---"] * len(columns), *rows)))
