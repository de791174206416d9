"""Listening tests by people: opinion scores (MOS) and preferences (A-B).

    voicegraft listen-test make --system NAME=FOLDER [--system ...] [--recordings FOLDER] --out OUT
    voicegraft listen-test score --key OUT/key.json RESULTS.json ... --out DIR

`make` writes OUT/page/index.html, which goes to the listeners, and OUT/key.json, which does not. Each listener sends back
one results file. `score` writes DIR/report.md and DIR/report.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.listening_test.page import AB, KEY_NAME, MOS, ListeningTestConfig, make_listening_test
from voicegraft.evaluation.listening_test.report import score_listening_test
from voicegraft.evaluation.listening_test.results import parse_rules


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="voicegraft listen-test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = verbs.add_parser("make", help="make the page and the key")
    verb.add_argument(
        "--system",
        metavar="NAME=FOLDER",
        action="append",
        default=[],
        help="once for each; equal file stems say the same",
    )
    verb.add_argument("--recordings", type=Path, metavar="FOLDER", help="a human saying the same: hidden reference")
    verb.add_argument(
        "--parts", nargs="+", choices=(MOS, AB), default=[MOS], help="opinion scores, preferences (default: mos)"
    )
    verb.add_argument("--texts", type=Path, metavar="FILE", help="report.jsonl or manifest.jsonl: show what is said")
    verb.add_argument("--sentences", type=int, metavar="N", help="the first N, and one for practice (default: all)")
    verb.add_argument(
        "--per-listener", type=int, metavar="N", help="items of each part for one listener (default: all)"
    )
    verb.add_argument("--checks", type=int, metavar="N", default=4, help="hidden checks in each part (default: 4)")
    verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    verb.set_defaults(run=make)
    verb = verbs.add_parser("score", help="score the results")
    verb.add_argument("results", type=Path, nargs="+", metavar="RESULTS.json")
    verb.add_argument("--key", type=Path, required=True, metavar="key.json")
    verb.add_argument(
        "--rule",
        metavar="NAME=LIMIT",
        action="append",
        default=[],
        help="of excluding a listener; NAME=off (docs/listening.md)",
    )
    verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the report")
    verb.set_defaults(run=score)
    options = parser.parse_args(argv)
    options.run(options)


def make(options: argparse.Namespace) -> None:
    systems = []
    for text in options.system:
        name, separator, folder = text.partition("=")
        if not (name and separator and folder):
            raise VoicegraftError(f"expected --system NAME=FOLDER, got {text!r}")
        systems.append((name, Path(folder)))
    key = make_listening_test(
        ListeningTestConfig(
            systems=tuple(systems),
            out=options.out,
            parts=tuple(options.parts),
            recordings=options.recordings,
            texts=options.texts,
            num_sentences=options.sentences,
            per_listener=options.per_listener,
            num_checks=options.checks,
        )
    )
    for part in key["parts"]:
        num_items = sum(len(pool["items"]) for pool in part["pools"])
        num_trials = sum(pool["take"] for pool in part["pools"]) + part["num_repeats"]
        print(f"{part['kind']}: {num_items} items of {len(key['sentences'])} sentences; {num_trials} for each listener")
    page = options.out / "page" / "index.html"
    print(f"{page} ({page.stat().st_size / 2**20:.1f} MiB): give this file to the listeners")
    print(f"{options.out / KEY_NAME}: keep this one; without it no results can be scored")


def score(options: argparse.Namespace) -> None:
    score_listening_test(options.key, options.results, options.out, parse_rules(options.rule))
    print((options.out / "report.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
