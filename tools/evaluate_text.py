"""How much written English the text front end says as expected, on files of `written~spoken` cases.

python -m tools.evaluate_text --cases FOLDER [--out FILE.json]
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from voicegraft.core.command_line import read_options
from voicegraft.core.errors import VoicegraftError
from voicegraft.text.english.normalize import Normalizer

REQUIRED = ("cardinal", "ordinal", "decimal", "date", "time", "money", "telephone")
_FILE = re.compile(r"(?:test_cases_)?(\w+)\.txt$")
_NOT_WORDS = re.compile(r"[^a-z0-9']+")


@dataclass(frozen=True)
class EvaluateTextConfig:
    cases: Path  # folder that holds test_cases_CATEGORY.txt
    out: Path | None = None  # file that gets every failure as JSON


@dataclass(frozen=True)
class Case:
    category: str
    written: str
    expected: str
    spoken: str

    @property
    def passes(self) -> bool:
        """The same words in the same order; a voice says neither capitals nor punctuation."""
        return _words(self.spoken) == _words(self.expected)

    @property
    def is_exact(self) -> bool:
        """The same characters."""
        return self.spoken == self.expected


@dataclass(frozen=True)
class Share:
    """What came out of one category, or of several together."""

    num_cases: int
    num_passed: int
    num_exact: int

    @property
    def passed(self) -> float:
        return self.num_passed / self.num_cases if self.num_cases else 0.0

    @property
    def exact(self) -> float:
        return self.num_exact / self.num_cases if self.num_cases else 0.0


def evaluate_text(cases_dir: Path | str, out: Path | str | None = None) -> dict[str, Share]:
    """Prints the share that passes by category, and writes it with every failure as JSON.

    Args:
        cases_dir: holds `test_cases_CATEGORY.txt` files, one `written~spoken` case per line.
        out: the JSON file to write; none is written without.

    Returns: category -> share; "required" are the seven that must pass together, "all" is everything.

    Raises:
        VoicegraftError: the folder holds no cases, or the JSON cannot be written.
    """
    cases = list(_cases(Path(cases_dir)))
    if not cases:
        raise VoicegraftError(
            f"expected files test_cases_CATEGORY.txt with lines written~spoken in {cases_dir}, found none"
        )
    categories = sorted({case.category for case in cases})
    shares = {name: _share([case for case in cases if case.category == name]) for name in categories}
    shares["required"] = _share([case for case in cases if case.category in REQUIRED])
    shares["all"] = _share(cases)
    print(_table(shares))
    if out is not None:
        _write(Path(out), shares, cases)
    return shares


def main(argv: Sequence[str] | None = None) -> None:
    config = read_options(EvaluateTextConfig, argv, __doc__, "python -m tools.evaluate_text")
    evaluate_text(config.cases, config.out)


def _cases(folder: Path) -> Iterator[Case]:
    normalizer = Normalizer()
    for path in sorted(folder.glob("*.txt")):
        name = _FILE.match(path.name)
        if name is None:
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            written, separator, expected = line.partition("~")
            if separator and written.strip() and expected.strip():
                yield Case(name[1], written, expected, normalizer.normalize(written))


def _words(text: str) -> list[str]:
    return _NOT_WORDS.sub(" ", text.lower().replace("’", "'")).replace(" ' ", " ").split()


def _share(cases: list[Case]) -> Share:
    return Share(len(cases), sum(case.passes for case in cases), sum(case.is_exact for case in cases))


def _table(shares: dict[str, Share]) -> str:
    rows = ["| category | cases | same words | same characters |", "|---|---:|---:|---:|"]
    for name, share in shares.items():
        rows.append(f"| {name} | {share.num_cases} | {share.passed:.1%} | {share.exact:.1%} |")
    return "\n".join(rows)


def _write(path: Path, shares: dict[str, Share], cases: list[Case]) -> None:
    report = {
        "shares": {name: asdict(s) | {"passed": s.passed, "exact": s.exact} for name, s in shares.items()},
        "failures": [asdict(case) for case in cases if not case.passes],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise VoicegraftError(f"cannot write the report {path}: {error.strerror}; choose another file") from error


if __name__ == "__main__":
    main()
