"""Whether speech ends, says its words, and says when it says them: the measurements behind docs/guard.md.

    voicegraft evaluate trust --out OUT [--stages suite planted cost timestamps long] [--shard 0/2]

suite       a thousand utterances (`evaluation/speech/robustness_suite.py`), spoken with the guard only watching;
            where it found a fault, again with the guard on. An outside judge counts repeats, skips and truncations of both.
planted     decoders that loop, skip, never end or babble: how many the guard catches, how late, how many it mends
cost        RTF and time to first audio with the guard on and off, in turns
timestamps  word times against a forced alignment of the sound by pocketsphinx; needs --recordings, whose texts are spoken
long        twenty minutes in one go: memory, seams, every word

An interrupted run goes on where it stopped. Several shards of the suite and of the planted faults may run side by side into one
folder; the report is of all rows that are there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.ledger import Row
from voicegraft.core.runtime import single_thread
from voicegraft.evaluation.metrics.significance import wilson
from voicegraft.evaluation.reports.summary import environment, fact_list, markdown_table
from voicegraft.evaluation.speech.items import open_rows
from voicegraft.guard.monitor import REPEAT, SKIP, TRUNCATION
from voicegraft.inference.speaker import Speaker
from voicegraft.recipes.trust_stages import STAGES, TrustConfig, cost, long_text, planted, suite, timestamps

COUNTED = (REPEAT, SKIP, TRUNCATION)  # what the rate of unsaid and twice-said words is made of


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="voicegraft evaluate trust", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="voice pack (default: the pocket pack)")
    parser.add_argument("--voice", help="a voice of the pack")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES[:-2]))
    parser.add_argument("--limit", type=int, metavar="N", help="of utterances, and of planted faults of each kind")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="every N-th utterance from the I-th on")
    parser.add_argument("--recordings", type=Path, metavar="FOLDER", help="with manifest.jsonl: texts for timestamps")
    parser.add_argument("--minutes", type=float, default=20.0, help="of the long text (default: 20)")
    parser.add_argument("--keep-audio", action="store_true", help="of the whole suite, under OUT/audio")
    given = parser.parse_args(argv)
    single_thread()
    shard = _shard(given.shard)
    config = TrustConfig(given.out, given.voice, given.limit, shard, given.recordings, given.minutes, given.keep_audio)
    evaluate_trust(config, given.stages, Speaker.load(given.pack))
    print((given.out / "report.md").read_text(encoding="utf-8"))


def evaluate_trust(config: TrustConfig, stages: Sequence[str], speaker: Speaker) -> dict[str, Any]:
    """Runs the stages and writes ``out/report.json`` and ``out/report.md``; returns the former."""
    if speaker.pack.monitor is None:
        raise VoicegraftError(
            f"{speaker.pack.folder} has no monitor, so there is no guard to evaluate; train one: "
            "voicegraft recipe train_monitor"
        )
    number, count = config.shard
    voice = speaker.voice_named(config.voice)
    identity = {"fingerprint": speaker.fingerprint, "voice": voice, "guard": asdict(speaker.pack.header.options.guard)}
    ledger = open_rows(config.out / f"rows-{number}-of-{count}.jsonl", identity)
    for stage, run in (("suite", suite), ("planted", planted)):
        if stage in stages:
            run(config, speaker, voice, ledger)
    rows = list(_rows(config.out, identity))
    found: dict[str, Any] = {"about": {"pack": speaker.pack.header.name, **identity}, "environment": environment()}
    known = config.out / "report.json"
    if known.is_file():
        found = {**json.loads(known.read_text(encoding="utf-8")), **found}
    for stage, measure in (("cost", cost), ("timestamps", timestamps), ("long", long_text)):
        if stage in stages:
            found[stage] = measure(config, speaker, voice)
    found["suite"] = summarize_suite([row for row in rows if row["stage"] == "suite"])
    found["planted"] = summarize_planted([row for row in rows if row["stage"] == "planted"])
    write_text(known, json.dumps(found, indent=1, ensure_ascii=False))
    write_text(config.out / "report.md", to_markdown(found))
    return found


def summarize_suite(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Rates over utterances with Wilson's intervals, without the guard and with it."""
    if not rows:
        return None

    def rates(side: str) -> dict[str, Any]:
        kinds = {kind: sum(kind in row[side]["judged"] for row in rows) for kind in (*COUNTED, "noise")}
        counted = sum(any(kind in COUNTED for kind in row[side]["judged"]) for row in rows)
        return {
            "runaway": asdict(wilson(sum(row[side]["ran_away"] for row in rows), len(rows))),
            "repeat, skip or truncation": asdict(wilson(counted, len(rows))),
            **{kind: asdict(wilson(count, len(rows))) for kind, count in kinds.items()},
        }

    flagged = [row for row in rows if row["without"]["faults"]]
    return {
        "num_utterances": len(rows),
        "num_words": sum(row["num_words"] for row in rows),
        "hours": sum(row["with"]["duration_sec"] for row in rows) / 3600,
        "without": rates("without"),
        "with": rates("with"),
        "flagged": asdict(wilson(len(flagged), len(rows))),
        "num_retries": sum(row["with"]["num_retries"] for row in rows),
        "num_failed": sum(row["with"]["status"] == "failed" for row in rows),
        "num_cut": sum(row["with"]["status"] == "cut" for row in rows),
        "num_empty": sum(row["with"]["status"] == "empty" for row in rows),
        "worst": [row for row in rows if row["with"]["judged"] or row["with"]["ran_away"] or row in flagged][:40],
    }


def summarize_planted(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each kind of planted fault: caught, caught too early, mended; and how many frames late."""
    from numpy import quantile

    summary = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        group = [row for row in rows if row["kind"] == kind]
        late = [row["late"] for row in group if row["caught"]]
        summary.append(
            {
                "kind": kind,
                "caught": asdict(wilson(sum(row["caught"] for row in group), len(group))),
                "alarms before": asdict(wilson(sum(row["alarm_before"] for row in group), len(group))),
                "mended": asdict(wilson(sum(row["mended"] for row in group), len(group))),
                "num": len(group),
                "late_frames": [float(q) for q in quantile(late, [0.5, 0.95, 1.0])] if late else None,
                "told_as": {
                    k: sum(row["told_as"] == k for row in group) for k in dict.fromkeys(r["told_as"] for r in group)
                },
            }
        )
    return summary


def to_markdown(found: Mapping[str, Any]) -> str:
    """The report for people."""
    parts = ["# Trust: does speech end, and does it say its words?"]
    told = found.get("suite")
    if told:
        sides = ("without", "with")
        rows = [(name, *(_share(told[side][name]) for side in sides)) for name in told["with"]]
        parts += [
            f"## Suite\n\n{told['num_utterances']} utterances, {told['num_words']} words, {told['hours']:.2f} h of sound. The "
            f"guard flagged {_share(told['flagged'])} of them; {told['num_retries']} retries, {told['num_failed']} sentences "
            f"failed, {told['num_cut']} utterances with a sound cut at its bound, {told['num_empty']} without a word.",
            markdown_table(("utterances with a ... (outside judge) [95 %]", "without guard", "with guard"), rows),
        ]
    if found.get("planted"):
        parts += [
            "## Planted faults",
            markdown_table(
                ("decoder that ...", "sentences", "caught [95 %]", "alarm before", "mended", "frames late (median, p95, max)",
                 "told as"),
                [
                    (row["kind"], str(row["num"]), _share(row["caught"]), _share(row["alarms before"]), _share(row["mended"]),
                     ", ".join(f"{q:.0f}" for q in row["late_frames"] or ()),
                     ", ".join(f"{kind} {count}" for kind, count in row["told_as"].items()))
                    for row in found["planted"]
                ],
            ),
        ]  # fmt: skip
    for stage in ("cost", "timestamps", "long"):
        if stage in found:
            parts += [f"## {stage.capitalize()}", fact_list(found[stage])]
    parts += ["## Measured on", fact_list({**found["about"], **found["environment"]})]
    return "\n\n".join(parts) + "\n"


def _share(estimate: Mapping[str, float]) -> str:
    return "{:.2f} % [{:.2f}, {:.2f}]".format(*(100 * estimate[key] for key in ("value", "low", "high")))


def _rows(out: Path, identity: Mapping[str, Any]) -> Iterator[Row]:
    for path in sorted(out.glob("rows-*.jsonl")):
        yield from open_rows(path, identity).rows.values()


def _shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise VoicegraftError(f"expected --shard I/N with I from 0 to N - 1, got {text!r}")
    return int(number), int(count)


if __name__ == "__main__":
    main()
