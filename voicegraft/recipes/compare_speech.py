"""Two evaluations of speech side by side, item by item.

    voicegraft evaluate compare A/report.json B/report.json --out OUT

Writes OUT/comparison.json and OUT/comparison.md. Both must have been judged alike and share items: the same prompts read
by two packs, by a pack and another system (evaluate speech --audio), or by one pack before and after a change.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from voicegraft.evaluation.reports.comparison import compare, read_report, write_comparison


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="voicegraft evaluate compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("a", type=Path, metavar="A", help="report.json of voicegraft evaluate speech, or its folder")
    parser.add_argument("b", type=Path, metavar="B", help="the other")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the comparison")
    given = parser.parse_args(argv)
    print(write_comparison(given.out, compare(read_report(given.a), read_report(given.b))))


if __name__ == "__main__":
    main()
