"""Writes the robustness suite anew, the same file each time:

python -m tools.robustness_suite.build [--out FILE.jsonl]
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

from tools.robustness_suite.templates import KINDS, POOLS
from voicegraft.core.files import write_text
from voicegraft.evaluation.speech.robustness_suite import SUITE_FILE, SuiteItem

_SLOT = re.compile(r"\{\{|\}\}|\{(\w+)(\^?)\}")
_NUM_PARAGRAPHS = 52
_NUM_UNPUNCTUATED, _UNPUNCTUATED_WORDS = 3, 300
_MOST_TRIES = 60  # for a text that is not there yet


def build() -> list[SuiteItem]:
    """All items, kind by kind, no text twice."""
    made: dict[str, list[str]] = {}
    for kind, (count, templates) in KINDS.items():
        made[kind] = _different(kind, count, templates)
    draw = random.Random("paragraph")
    sentences = [*made["statement"], *made["question"], *made["abbreviation"]]
    made["paragraph"] = [" ".join(_pick(draw, sentences) for _ in range(3 + n % 3)) for n in range(_NUM_PARAGRAPHS)]
    made["unpunctuated"] = [_unpunctuated(number, made["statement"]) for number in range(_NUM_UNPUNCTUATED)]
    made["endless"] = _endless()
    return [
        SuiteItem(f"{kind.replace(' ', '-')}-{number:03}", kind, text)
        for kind, texts in made.items()
        for number, text in enumerate(texts, start=1)
    ]


def save(path: Path) -> None:
    rows = [{"id": item.id, "kind": item.kind, "text": item.text} for item in build()]
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _different(kind: str, count: int, templates: tuple[str, ...]) -> list[str]:
    """Expands the templates in turn until there are enough; the kinds do not depend on one another."""
    draw = random.Random(kind)
    texts: dict[str, None] = {}
    for number in range(count):
        for attempt in range(_MOST_TRIES):
            text = _expand(templates[(number + attempt // 4) % len(templates)], draw)
            if text not in texts:
                texts[text] = None
                break
    return list(texts)


def _expand(template: str, draw: random.Random) -> str:
    """Fills the slots, each with a word that the text does not have yet where there is one; ``{name^}`` shouts."""
    used: set[str] = set()
    again: dict[str, str] = {}  # repetition is what these are for

    def fill(slot: re.Match[str]) -> str:
        name, shouts = slot.groups()
        if name is None:
            return slot.group()[0]
        if name == "doubled":
            word = again.setdefault(name, _pick(draw, POOLS[name]))
        else:
            word = _pick(draw, [word for word in POOLS[name] if word not in used] or POOLS[name])
        used.add(word)
        return word.upper() if shouts else word

    return _SLOT.sub(fill, template)


def _pick(draw: random.Random, words: list[str] | tuple[str, ...]) -> str:
    return words[int(draw.random() * len(words))]  # random() alone is the same in every version of Python


def _unpunctuated(number: int, statements: list[str]) -> str:
    """Hundreds of words without a mark or a capital, as speech recognisers write."""
    draw = random.Random(f"unpunctuated {number}")
    words: list[str] = []
    while len(words) < _UNPUNCTUATED_WORDS:
        words += re.findall(r"[a-z']+", _pick(draw, statements).lower())
    return " ".join(words[:_UNPUNCTUATED_WORDS])


def _endless() -> list[str]:
    """What nobody would read aloud: it must be left out or bounded, and reported."""
    draw = random.Random("endless")
    letters = "abcdefghijklmnopqrstuvwxyz"
    blob = [_pick(draw, list(letters + letters.upper() + "0123456789+/")) for _ in range(5000)]
    return [
        "a" * 300,
        "".join(_pick(draw, list(letters)) for _ in range(300)),
        f"Here it is: {''.join(blob)}==",
        "Open https://example.com/" + "/".join(_pick(draw, list(letters)) * 9 for _ in range(40)) + " please.",
        "ha" * 60,
        "yes" + "!" * 200,
        "pneumonoultramicroscopicsilicovolcanoconiosis",
        "1" * 80,
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the robustness suite.")
    parser.add_argument("--out", type=Path, default=SUITE_FILE, help="(default: inside the package)")
    save(parser.parse_args().out)
