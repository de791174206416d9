"""Listening tests by people: opinion scores (MOS) and preferences (A-B).

    voicegraft listen-test make --system NAME=FOLDER [--system ...] [--recordings FOLDER] --out OUT
    voicegraft listen-test score --key OUT/key.json RESULTS.json ... --out DIR

`make` writes OUT/page/index.html, which goes to the listeners, and OUT/key.json, which does not. Each listener sends back
one results file. `score` writes DIR/report.md, .json and .html.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from voicegraft.core.command_line import read_options
from voicegraft.core.errors import VoicegraftError
from voicegraft_listening.page import KEY_NAME, ListeningTestConfig, make_listening_test
from voicegraft_listening.report import score_listening_test
from voicegraft_listening.results import parse_rules


@dataclass(frozen=True)
class ScoreConfig:
    results: tuple[Path, ...]  # RESULTS.json of each listener
    key: Path  # key.json
    out: Path  # folder for the report
    rules: tuple[str, ...] = ()  # NAME=LIMIT of excluding a listener; NAME=off (docs/listening.md)


def main(argv: list[str] | None = None) -> None:
    verb, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if verb == "make":
        names = {"systems": "system", "num_sentences": "sentences", "num_checks": "checks"}
        make(read_options(ListeningTestConfig, rest, __doc__, "voicegraft listen-test make", names=names))
    elif verb == "score":
        names = {"rules": "rule"}
        score(read_options(ScoreConfig, rest, __doc__, "voicegraft listen-test score", ("results",), names))
    elif verb in ("-h", "--help"):
        print(__doc__)
    else:
        raise VoicegraftError(f"expected listen-test make or listen-test score, got {verb!r}")


def make(config: ListeningTestConfig) -> None:
    key = make_listening_test(config)
    for part in key["parts"]:
        num_items = sum(len(pool["items"]) for pool in part["pools"])
        num_trials = sum(pool["take"] for pool in part["pools"]) + part["num_repeats"]
        print(f"{part['kind']}: {num_items} items of {len(key['sentences'])} sentences; {num_trials} for each listener")
    page = config.out / "page" / "index.html"
    print(f"{page} ({page.stat().st_size / 2**20:.1f} MiB): give this file to the listeners")
    print(f"{config.out / KEY_NAME}: keep this one; without it no results can be scored")


def score(config: ScoreConfig) -> None:
    score_listening_test(config.key, config.results, config.out, parse_rules(config.rules))
    print((config.out / "report.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
