"""Spoken questions and sentences that have a right answer, for whatever voice says them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from voicegraft.data.listening_tasks import HEARD
from voicegraft.data.splits import text_key
from voicegraft.evaluation.metrics.rates import normalize_transcript

_FILE = Path(__file__).with_name("items.yaml")


@dataclass(frozen=True)
class Item:
    text: str  # what is said
    answers: tuple[str, ...]  # one of them stands in a right answer, in whole words
    wording: str  # of what is asked

    def is_right(self, answer: str) -> bool:
        said = f" {normalize_transcript(answer)} "
        return any(f" {normalize_transcript(one)} " in said for one in self.answers)


def questions() -> Mapping[str, Item]:
    """Key of the text (``data.splits.text_key``) -> a question on a fact that SmolLM2-135M-Instruct knows in writing."""
    items = (Item(text, tuple(answers), HEARD) for text, answers in _table()["questions"].items())
    return {text_key(item.text): item for item in items}


def sentences() -> Mapping[str, Item]:
    """The same of sentences that name one thing of a kind, which is what is asked."""
    asked = _table()["asked"]
    items = (
        Item(text, tuple(answers), f"{asked.replace('KIND', kind)}\n{HEARD}")
        for kind, group in _table()["sentences"].items()
        for text, answers in group.items()
    )
    return {text_key(item.text): item for item in items}


@cache
def _table() -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return found
