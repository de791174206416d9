"""From per-item rows to a summary per stage and voice, as a document."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import voicegraft
from voicegraft.core.ledger import Row
from voicegraft.evaluation.metrics.measures import BY_NAME, PROSODY, against, estimates, fault_rates
from voicegraft.evaluation.metrics.rates import bootstrap_mean
from voicegraft.evaluation.reports.document import (
    Document,
    Facts,
    Section,
    Table,
    decimal,
    interval,
    percent,
    write_document,
)
from voicegraft.evaluation.speech.items import STAGES

_PACKAGES = (
    "torch", "transformers", "numpy", "scipy", "faster-whisper", "ctranslate2", "pocketsphinx", "jiwer", "speechmos",
    "onnxruntime", "resemblyzer",
)  # fmt: skip


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
    report = {"about": dict(about), "environment": environment(), "summary": summarize(rows), "rows": list(rows)}
    worst = [
        (row["stage"], row["voice"], row["id"], f"{row['word_errors']}/{row['num_words']}", _ending(row), row["reference"],
         row["heard"])
        for row in worst_items(rows)
    ]  # fmt: skip
    columns = ("stage", "voice", "item", "errors", "ending", "text", "heard")
    *found, measured_on = summary_sections(report)
    sections = [*found, Section("Worst items", [Table(columns, worst, "No item has an error.")]), measured_on]
    write_document(out, "report", Document("Speech evaluation", sections), report, page=False)
    return report


def summary_sections(report: Mapping[str, Any]) -> list[Section]:
    """Tables by stage and voice, and at the end what was evaluated and where; parts that the report lacks are left out."""
    about, summary = dict(report.get("about") or {}), list(report.get("summary") or ())
    test_set, judges = about.get("protocol"), about.get("judges") or {}
    about["protocol"] = test_set and test_set["name"]
    two_heard = any("wer_pocketsphinx" in (one.get("estimates") or {}) for one in summary)
    sections = [
        Section(
            "",
            [
                _table(summary, _MAIN if two_heard else {k: v for k, v in _MAIN.items() if k != _BESIDE}),
                f"WER and CER are of the words that {judges.get('recognizer', 'a recogniser')} hears; "
                f"MOS is predicted ({judges.get('mos', 'dnsmos')}); "
                "voices are compared by the cosine with the mean embedding of the recordings"
                " held back from training; a percentage after a speaking rate is how far it lies from the recordings'.",
            ],
        )
    ]
    if test_set:
        sections.append(Section(f"As {test_set['name']}", [_table(summary, _TEST_SET), test_set["note"]]))
    note = (
        "Pauses are silences of 0.15 s or more inside a clip. In round brackets: the difference to the recordings, and after D"
        " the distance (Wasserstein) between the values of single clips, of single pauses for their durations."
    )
    return [
        *sections,
        Section("Melody and pauses", [_table(summary, _PROSODY), note]),
        Section("Faults", _fault_parts(summary)),
        Section("Measured on", [Facts({**about, **(report.get("environment") or {})})]),
    ]


Summary = Mapping[str, Any]
Columns = Mapping[str, Callable[[Summary, Summary], str]]  # title -> cell of a summary, given its voice's recordings


def _table(summaries: Sequence[Summary], columns: Columns) -> Table:
    human = {one.get("voice"): one for one in summaries if one.get("stage") == STAGES[0]}
    cells = (
        [str(one.get("stage") or ""), str(one.get("voice") or "")]
        + [cell(one, human.get(one.get("voice"), {})) for cell in columns.values()]
        for one in summaries
    )
    return Table(["stage", "voice", *columns], list(cells), "There is no summary.")


def _estimate(name: str) -> Callable[[Summary, Summary], str]:
    return lambda one, _: interval((one.get("estimates") or {}).get(name), BY_NAME[name].digits)


def _opinion(key: str) -> Callable[[Summary, Summary], str]:
    return lambda one, _: decimal(((one.get("mos") or {}).get(key) or {}).get("value"), 2)


def _speaking_rate(name: str) -> Callable[[Summary, Summary], str]:
    def cell(one: Summary, human: Summary) -> str:
        value, known = one.get(name), human.get(name)
        if value is None or not known or one is human:
            return decimal(value, 2)
        return f"{value:.2f} ({100 * (value / known - 1):+.0f} %)"

    return cell


def _melody(name: str) -> Callable[[Summary, Summary], str]:
    def cell(one: Summary, human: Summary) -> str:
        text, beside = _estimate(name)(one, human), (one.get("against_recordings") or {}).get(name)
        if not beside:
            return text
        digits = BY_NAME[name].digits
        difference = round(beside["difference"], digits) + 0.0  # no "-0"
        return f"{text} ({difference:+.{digits}f}, D {decimal(beside['distance'], digits)})"

    return cell


def _other_voices(one: Summary, _: Summary) -> str:
    alike = one.get("similarity") or {}
    return ", ".join(f"{value:.3f} ({name})" for name, value in alike.items() if name != one.get("voice")) or "-"


def _first_audio(one: Summary, _: Summary) -> str:
    first = one.get("first_audio_ms")
    return f"{first['median']:.0f}, {first['p95']:.0f}" if first else "-"


def _clips(one: Summary, _: Summary) -> str:
    return str(one.get("num_clips", "-"))


_BESIDE = "WER, pocketsphinx [95 %]"
_MAIN: Columns = {
    "clips": _clips,
    "WER [95 %]": _estimate("wer"),
    _BESIDE: _estimate("wer_pocketsphinx"),
    **{f"{title} [95 %]": _estimate(name) for title, name in (("CER", "cer"), ("MOS", "mos"))},
    **{title: _opinion(key) for title, key in (("sig", "sig"), ("bak", "bak"), ("P.808", "p808"))},
    "same voice [95 %]": _estimate("similarity"),
    "other voice": _other_voices,
    "RTF [95 %]": _estimate("rtf"),
    "first audio ms (median, p95)": _first_audio,
    "words/s": _speaking_rate("words_per_sec"),
    "letters/s": _speaking_rate("letters_per_sec"),
    "ran away": lambda one, _: f"{one.get('num_ran_away', '-')}/{one.get('num_clips', '-')}",
}
_TEST_SET: Columns = {
    "clips": _clips,
    "WER, mean over clips [95 %]": _estimate("wer_per_item"),
    "WER, all words [95 %]": _estimate("wer"),
    "voice of the prompt [95 %]": _estimate("prompt_similarity"),
}
_PROSODY: Columns = {
    **{f"{BY_NAME[name].title} [95 %]": _melody(name) for name in PROSODY},
    "longest pauses s (p95)": lambda one, _: decimal(one.get("pause_p95_sec"), 2),
}


def _ending(row: Row) -> str:
    ran_away = ["ran away"] if row["ran_away"] and row["status"] == "ok" else []
    return ", ".join([row["status"], *ran_away, *(fault for fault in row["faults"] if fault != "runaway")])


def _fault_parts(summaries: Sequence[Summary]) -> list[Table | str]:
    kinds = list(dict.fromkeys(kind for one in summaries for kind in one.get("faults") or ()))

    def share(num: Any, num_clips: Any, estimate: Mapping[str, float] | None) -> str:
        return f"{num}/{num_clips}: {percent(estimate)}" if estimate else "-"

    def count(kind: str) -> Callable[[Summary, Summary], str]:
        def cell(one: Summary, _: Summary) -> str:
            fault = (one.get("faults") or {}).get(kind) or {}
            return share(fault.get("num"), fault.get("num_clips", one.get("num_clips")), fault)

        return cell

    def ran_away(one: Summary, _: Summary) -> str:
        return share(one.get("num_ran_away"), one.get("num_clips"), (one.get("estimates") or {}).get("ran_away"))

    note = (
        "Shares of clips with Wilson's 95 % interval. Ran away: the status is not ok, or the clip is too long for its text;"
        " runaway is the latter alone. A retry is an attempt that the speaker threw away itself, and no failure."
    )
    if not set(kinds) - {"runaway"}:
        note += " Nobody listened for repeats, skips and truncations."
    columns = {"ran away": ran_away, **{kind: count(kind) for kind in kinds}}
    return [_table(summaries, {**columns, "retries": lambda one, _: str(one.get("num_retries", "-"))}), note]
