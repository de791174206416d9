"""Markup is read as a person would read it aloud: a table of inputs, and what holds for any input."""

import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from voicegraft.text.english.frontend import EnglishFrontend
from voicegraft.text.markup.annotations import read_annotations
from voicegraft.text.markup.reader import read_markup

LINES = (Path(__file__).parent / "cases" / "markup.jsonl").read_text(encoding="utf-8").splitlines()
CASES = [json.loads(line) for line in LINES]
# All that may be markup, and more; every letter outside must be said or reported.
MARKUP = (
    r"<!\[CDATA\[", r"<[^<]*>", r"&#?\w+;", r"\]\([^\n]*\n?[^\n]*", r"\[[^\]\n\x1b]*\](?:[:(\[][^\n]*)?", r"\{[^{}]*\}",
    r"[^\n]*\n?[^\n]*-->[^\n]*", r"WEBVTT[^\n]*(?:\n[^\n]+)*", r"(?:```|~~~)[^\n]*", r"\[[ xX]\]",
    r"\x1b[^A-Za-z]*.", r"\x1b\][^\x07\x1b]*", r"\x1b.",
)  # fmt: skip


def said(text: str, size: int = 0) -> tuple[str, list[str]]:
    """Sentences as written, with their pauses in seconds, and what is left out."""
    pieces = [text[place : place + size] for place in range(0, len(text), size)] if size else [text]
    sentences, skipped = [], dict[str, None]()
    for form in EnglishFrontend().sentences(pieces):
        skipped |= dict.fromkeys(form.skipped)
        pause_sec = form.parts[-1].pause_sec if form.parts else 0
        if form.written:
            sentences.append(form.written + (f" ⏸{pause_sec:g}" if pause_sec else ""))
    return " | ".join(sentences), list(skipped)


def read(text: str, draw: random.Random | None = None) -> tuple[str, Counter[str]]:
    """What the markup reader makes of a text, in random pieces, and what it leaves out."""
    left_out: Counter[str] = Counter()
    pieces, place = [], 0
    while place < len(text):
        size = draw.choice((1, 2, 5, 30, 400)) if draw else len(text)
        pieces.append(text[place : place + size])
        place += size
    return "".join(read_markup(pieces, lambda run: left_out.update([run]))), left_out


def letters(text: str) -> Counter[str]:
    return Counter(filter(str.isalpha, text))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:20])
def test_markup_is_read_as_people_read_it(case: dict[str, str]) -> None:
    sentences, skipped = said(case["text"])
    _, left_out = read(case["text"])
    assert (sentences, [*left_out]) == (case["said"], case.get("skipped", []))
    assert {*skipped} >= {*left_out}  # the reader of words adds what it leaves out
    for size in (1, 3, 8):
        again, skipped_again = said(case["text"], size)
        assert again == sentences and {*skipped_again} == {*skipped}


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("<p>One &amp; two</p>", "One & two"),
        (
            "<speak><say-as interpret-as='verbatim'>SQL</say-as> <sub alias='a b'>ab</sub></speak>",
            "\ufdd0characters\ufdd1SQL\ufdd2 \ufdd0sub=a\ufdd4b\ufdd1ab\ufdd2",
        ),
        ("<speak>1<break time='0.25s'/>2<break time='1s'/></speak>", "1\ufdd3250\ufdd2\n\n2\ufdd31000\ufdd2"),
        ("<speak><sub alias='alone'/>x <sub alias='alone'></sub></speak>", "x"),
        (f"<speak><sub alias='b'>{'a' * 201}</sub></speak>", "b"),
        (f"<speak><say-as interpret-as='digits'>{'1' * 201}</say-as></speak>", "1" * 201),
    ],
)
def test_what_markup_says_beyond_its_text_travels_along(text: str, read_as: str) -> None:
    assert read(text)[0] == read_as


def test_prose_is_held_back_for_the_beginning_of_a_line_only() -> None:
    text = "Well, I never said that! (He laughed; she did not.)\nThen 5 < 6, they said to us.\n\nA new day; the end."
    num_typed = num_read = 0

    def typed() -> Iterator[str]:
        nonlocal num_typed
        for char in text:
            num_typed += 1
            yield char

    for piece in read_markup(typed(), print):
        num_read += len(re.sub("\ufdd3[0-9]+\ufdd2", "", piece))
        assert num_typed - num_read <= len("\nThen ")
    assert num_read >= len(text)


MARKS = (
    "<",
    ">",
    "&",
    "*",
    "_",
    "`",
    "[",
    "]",
    "(",
    ")",
    "|",
    "#",
    "-",
    "\n",
    "\n\n",
    "\\",
    "~",
    "!",
    '"',
    "=",
    " ",
    "1. ",
)


def mutated(draw: random.Random) -> str:
    """A document with pieces of others in it, pieces left out, and marks anywhere."""
    text = draw.choice(CASES)["text"]
    for _ in range(draw.randint(1, 6)):
        place, end = sorted((draw.randint(0, len(text)), draw.randint(0, len(text))))
        kind = draw.random()
        if kind < 0.5:
            text = text[:place] + draw.choice(MARKS) * draw.choice((1, 1, 2, 3)) + text[place:]
        elif kind < 0.7:
            text = text[:place] + text[min(end, place + 20) :]
        else:
            other = draw.choice(CASES)["text"]
            text = text[:place] + "\n" * draw.randint(0, 2) + other[draw.randint(0, len(other)) :] + text[place:]
    return text


def check(draw: random.Random) -> None:
    """Any text is read to its end, alike in any pieces, and no letter of it is lost."""
    text = mutated(draw)
    spoken, left_out = read(text)
    assert read(text, draw) == (spoken, left_out), text
    written, _ = read_annotations(spoken)
    covered = {place for pattern in MARKUP for found in re.finditer(pattern, text) for place in range(*found.span())}
    expected = letters("".join(char for place, char in enumerate(text) if place not in covered))
    lost = expected - letters(written) - letters("".join(left_out.elements()))
    assert not lost, (text, written, left_out, lost)


def test_any_text_is_read_alike_in_any_pieces_and_no_letter_is_lost() -> None:
    for seed in range(300):
        check(random.Random(seed))


# fmt: off
HOSTILE = (
    "<", "[", "|", "*", "`", "&", "\\", "> ", "- ", "<a ", "<a href='", "<!--", "![", "[[a]", "[a](", "**a", "_a_", "~", "<b>",
    "<ol><li>", "\x1b[", "\x1b]", "1\n", "|a\n", "a|b\n", "#", "# ", "```\n", "<sup>", "a <b x='1' ", "-->", "{\\", "\r", " ",
    "\t", "&#1", "[^", "[a]: ", "=", "+-", "  - a\n", "<speak>", "WEBVTT\n", "00:00:00,000 --> ",
)
# fmt: on


@pytest.mark.parametrize("mark", HOSTILE)
def test_time_is_in_proportion_and_memory_is_bounded(mark: str) -> None:
    def seconds(text: str, size: int) -> float:
        started = time.process_time()
        for _ in read_markup((text[place : place + size] for place in range(0, len(text), size)), lambda run: None):
            pass
        return time.process_time() - started

    text = mark * (8_000 // len(mark))
    for size in (len(text), 100):
        assert seconds(text, size) < 2
    nested = "".join(f"{'  ' * depth}- item {depth}\n" for depth in range(200))
    assert read(nested)[0].count("\n\n") == 199
