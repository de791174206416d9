"""The robustness suite: a thousand varied utterances of our own, from one word to code, that every voice must survive."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

SUITE_FILE = Path(__file__).parent / "data" / "robust-1000.jsonl"


@dataclass(frozen=True)
class SuiteItem:
    id: str
    kind: str  # statement, question, number, capitals, code, ...
    text: str


def load_suite() -> list[SuiteItem]:
    """All items, in the order of the file that the package ships; `build_suite` makes it."""
    with SUITE_FILE.open(encoding="utf-8") as file:
        return [SuiteItem(**json.loads(line)) for line in file]
