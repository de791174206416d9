"""Whether speech ends, says its words, and says when it says them: the measurements behind docs/guard.md.

    voicegraft evaluate robustness --out OUT [--stages suite fault-injection cost timestamps long] [--shard 0/2]

suite       a thousand utterances (`evaluation/speech/robustness_suite.py`), spoken with the guard only watching;
            where it found a fault, again with the guard on. An outside judge counts repeats, skips and truncations of both.
fault-injection
            decoders that loop, skip, never end or babble: how many the guard catches, how late, how many it mends
cost        RTF and time to first audio with the guard on and off, in turns
timestamps  word times against a forced alignment of the sound by pocketsphinx; needs --recordings, whose texts are spoken
long        twenty minutes in one go: memory, seams, every word

An interrupted run goes on where it stopped. Several shards of the suite and of the injected faults may run side by side into
one folder; the report is of all rows that are there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from voicegraft.core.command_line import read_options
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.ledger import Row
from voicegraft.core.runtime import single_thread
from voicegraft.evaluation.metrics.significance import wilson
from voicegraft.evaluation.reports.document import Document, Facts, Section, Table, percent, write_document
from voicegraft.evaluation.reports.summary import environment
from voicegraft.evaluation.speech.items import open_rows
from voicegraft.guard.monitor import REPEAT, SKIP, TRUNCATION
from voicegraft.inference.speaker import Speaker
from voicegraft.recipes.robustness_stages import RobustnessConfig, cost, fault_injection, long_text, suite, timestamps

COUNTED = (REPEAT, SKIP, TRUNCATION)  # what the rate of unsaid and twice-said words is made of


def main(argv: list[str] | None = None) -> None:
    config = read_options(RobustnessConfig, argv, __doc__, "voicegraft evaluate robustness")
    single_thread()
    evaluate_robustness(config, Speaker.load(config.pack))
    print((config.out / "report.md").read_text(encoding="utf-8"))


def evaluate_robustness(config: RobustnessConfig, speaker: Speaker) -> dict[str, Any]:
    """Runs the stages and writes ``out/report.json``, ``.md`` and ``.html``; returns the first."""
    if speaker.pack.monitor is None:
        raise VoicegraftError(
            f"{speaker.pack.folder} has no monitor, so there is no guard to evaluate; train one: "
            "voicegraft recipe train_monitor"
        )
    number, count = config.part
    voice = speaker.voice(config.voice).name
    identity = {"fingerprint": speaker.fingerprint, "voice": voice, "guard": asdict(speaker.pack.header.options.guard)}
    ledger = open_rows(config.out / f"rows-{number}-of-{count}.jsonl", identity)
    for stage, run in (("suite", suite), ("fault-injection", fault_injection)):
        if stage in config.stages:
            run(config, speaker, voice, ledger)
    rows = [row for path in sorted(config.out.glob("rows-*.jsonl")) for row in open_rows(path, identity).rows.values()]
    found: dict[str, Any] = {"about": {"pack": speaker.pack.header.name, **identity}, "environment": environment()}
    known = config.out / "report.json"
    if known.is_file():
        found = {**json.loads(known.read_text(encoding="utf-8")), **found}
    for stage, measure in (("cost", cost), ("timestamps", timestamps), ("long", long_text)):
        if stage in config.stages:
            found[stage] = measure(config, speaker, voice)
    found["suite"] = summarize_suite([row for row in rows if row["stage"] == "suite"])
    found["fault injection"] = summarize_faults([row for row in rows if row["stage"] == "fault-injection"])
    write_document(config.out, "report", _document(found), found)
    return found


def summarize_suite(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Rates over utterances with Wilson's intervals, without the guard and with it."""
    if not rows:
        return None

    def rates(side: str) -> dict[str, Any]:
        def judged(kinds: set[str]) -> dict[str, float]:
            return _rate(rows, lambda row: kinds & {*row[side]["judged"]})

        return {
            "runaway": _rate(rows, lambda row: row[side]["ran_away"]),
            "repeat, skip or truncation": judged({*COUNTED}),
            **{kind: judged({kind}) for kind in (*COUNTED, "noise")},
        }

    endings = Counter(row["with"]["status"] for row in rows)
    flagged = [row for row in rows if row["without"]["faults"]]
    return {
        "num_utterances": len(rows),
        "num_words": sum(row["num_words"] for row in rows),
        "hours": sum(row["with"]["duration_sec"] for row in rows) / 3600,
        "without": rates("without"),
        "with": rates("with"),
        "flagged": asdict(wilson(len(flagged), len(rows))),
        "num_retries": sum(row["with"]["num_retries"] for row in rows),
        "num_failed": endings["failed"],
        "num_cut": endings["cut"],
        "num_empty": endings["empty"],
        "worst": [row for row in rows if row["with"]["judged"] or row["with"]["ran_away"] or row in flagged][:40],
    }


def summarize_faults(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each kind of injected fault: caught, caught too early, mended; and how many frames late."""
    summary = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        group = [row for row in rows if row["kind"] == kind]
        late = [row["late"] for row in group if row["caught"]]
        summary.append(
            {
                "kind": kind,
                "caught": _rate(group, lambda row: row["caught"]),
                "alarms before": _rate(group, lambda row: row["alarm_before"]),
                "mended": _rate(group, lambda row: row["mended"]),
                "num": len(group),
                "late_frames": np.quantile(late, [0.5, 0.95, 1.0]).tolist() if late else None,
                "told_as": dict(Counter(row["told_as"] for row in group)),
            }
        )
    return summary


def _rate(rows: Sequence[Row], hit: Callable[[Row], object]) -> dict[str, float]:
    return asdict(wilson(sum(bool(hit(row)) for row in rows), len(rows)))


def _document(found: Mapping[str, Any]) -> Document:
    sections = []
    if told := found.get("suite"):
        rows = [(name, *(percent(told[side][name], 2) for side in ("without", "with"))) for name in told["with"]]
        text = (
            f"{told['num_utterances']} utterances, {told['num_words']} words, {told['hours']:.2f} h of sound. The guard "
            f"flagged {percent(told['flagged'], 2)} of them; {told['num_retries']} retries, {told['num_failed']} sentences "
            f"failed, {told['num_cut']} utterances with a sound cut at its bound, {told['num_empty']} without a word."
        )
        columns = ("utterances with a ... (outside judge) [95 %]", "without guard", "with guard")
        sections.append(Section("Suite", [text, Table(columns, rows)]))
    if injected := found.get("fault injection"):
        faults = [
            (row["kind"], str(row["num"]), *(percent(row[name], 2) for name in ("caught", "alarms before", "mended")),
             ", ".join(f"{q:.0f}" for q in row["late_frames"] or ()),
             ", ".join(f"{kind} {count}" for kind, count in row["told_as"].items()))
            for row in injected
        ]  # fmt: skip
        titles = (
            "decoder that ...", "sentences", "caught [95 %]", "alarm before", "mended", "frames late (median, p95, max)",
            "told as",
        )  # fmt: skip
        sections.append(Section("Fault injection", [Table(titles, faults)]))
    sections += [
        Section(stage.capitalize(), [Facts(found[stage])]) for stage in ("cost", "timestamps", "long") if stage in found
    ]
    sections.append(Section("Measured on", [Facts({**found["about"], **found["environment"]})]))
    return Document("Robustness: does speech end, and does it say its words?", sections)


if __name__ == "__main__":
    main()
