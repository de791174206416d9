"""Spoken questions and sentences that have a right answer, and conversations, for whatever voice says them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from voicegraft.data.listening_tasks import HEARD
from voicegraft.data.splits import text_key
from voicegraft.evaluation.metrics.rates import normalize_transcript

_SPOKEN = re.compile("<(.+?)>")  # in a message of a conversation


@dataclass(frozen=True)
class Item:
    text: str  # what is said
    answers: tuple[str, ...]  # one of them stands in a right answer, in whole words
    wording: str = HEARD  # of what is asked

    def is_right(self, answer: str) -> bool:
        said = f" {normalize_transcript(answer)} "
        return any(f" {normalize_transcript(one)} " in said for one in self.answers)


def questions() -> Mapping[str, Item]:
    """Key of the text (``data.splits.text_key``) -> a question on a fact that SmolLM2-135M-Instruct knows in writing."""
    items = (Item(text, tuple(answers)) for text, answers in _table("items")["questions"].items())
    return {text_key(item.text): item for item in items}


def sentences() -> Mapping[str, Item]:
    """The same of sentences that name one thing of a kind, which is what is asked."""
    asked = _table("items")["asked"]
    items = (
        Item(text, tuple(answers), f"{asked.replace('KIND', kind)}\n{HEARD}")
        for kind, group in _table("items")["sentences"].items()
        for text, answers in group.items()
    )
    return {text_key(item.text): item for item in items}


def conversations() -> Mapping[str, tuple[Item, ...]]:
    """Name -> the user's messages: what is spoken stands in <>, and one that is only to be read has no answers."""
    found = _table("conversations")
    return {name: tuple(Item(text, tuple(right)) for text, right in turns.items()) for name, turns in found.items()}


def pieces(text: str) -> list[str]:
    """What is written and what is spoken of a message, in turns; the first is written, and may be empty."""
    return _SPOKEN.split(text)


def spoken() -> Mapping[str, str]:
    """Key of the text -> what is spoken in a conversation."""
    messages = (item.text for turns in conversations().values() for item in turns)
    return {text_key(said): said for text in messages for said in pieces(text)[1::2]}


@cache
def _table(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8"))
    return found
