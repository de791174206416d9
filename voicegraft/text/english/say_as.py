"""What SSML's say-as and sub ask for, put in words, or written so that the ordinary rules read it that way."""

from __future__ import annotations

import re

from voicegraft.text.english.dates import MONTHS, say_year
from voicegraft.text.english.letters import NAME_OF_A
from voicegraft.text.english.numbers import DIGITS, NUMBER, cardinal, digits, fraction_words, ordinal, parse
from voicegraft.text.english.symbols import NAMES
from voicegraft.text.patterns import lazy

_SIGNS = {
    "-": "dash",
    ".": "dot",
    ",": "comma",
    "'": "apostrophe",
    "(": "left parenthesis",
    ")": "right parenthesis",
} | NAMES
_NUMBER = lazy(rf"([-+\u2212])?({NUMBER})", re.VERBOSE)
_FRACTION = lazy(r"(?:(\d+)(?:\s*\+\s*|\s+))?(\d+)\s*/\s*(\d+)")
_ORDER = {"m": "month", "d": "day", "y": "year"}


def say_as(kind: str, written: str) -> str | None:
    """What is read instead; None if the ordinary reading is right, or there is no better one."""
    name, _, detail = kind.partition("=")
    if name == "sub":
        return detail
    say = {
        "characters": _characters, "digits": _digits, "telephone": _telephone, "cardinal": _cardinal, "ordinal": _ordinal,
        "fraction": _fraction,
    }.get(name)  # fmt: skip
    if name == "date":
        return _date(written, detail or "mdy")
    return say(written) if say else None


def _characters(written: str) -> str:
    said = []
    for character in written:
        if character.isdecimal():
            said.append(DIGITS[int(character)])
        elif character.isalpha():
            said.append(NAME_OF_A if character in "aA" else character.upper())
        elif character in _SIGNS:
            said.append(_SIGNS[character])
    return " ".join(said)


def _digits(written: str) -> str | None:
    return _characters(written) if re.search(r"\d", written) else None


def _telephone(written: str) -> str | None:
    groups = re.findall(r"\d+", written)
    plus = "plus " if written.strip().startswith("+") else ""
    return plus + ", ".join(map(digits, groups)) if groups else None


def _cardinal(written: str) -> str | None:
    found = _NUMBER.fullmatch(written.strip())
    if found is None:
        return None
    number = parse(found[2])
    said = number.say() if number.decimals else cardinal(number.value)
    return f"{'minus ' if found[1] in ('-', chr(0x2212)) else ''}{said}"


def _ordinal(written: str) -> str | None:
    found = re.match(r"\s*(\d[\d,]*)", written)
    return ordinal(parse(found[1]).value) if found else None


def _fraction(written: str) -> str | None:
    found = _FRACTION.fullmatch(written.strip())
    if found is None:
        return None
    said = fraction_words(int(found[2]), int(found[3]), mixed=bool(found[1]))
    return f"{cardinal(found[1])} and {said}" if found[1] else said


def _date(written: str, order: str) -> str | None:
    """A date in figures; one in words is read as it stands."""
    parts = re.findall(r"\d+", written)
    if len(order) == 3 and len(parts) == 1 and len(parts[0]) == 8:  # 20240704
        cuts = [4 if letter == "y" else 2 for letter in order]
        parts = [parts[0][sum(cuts[:i]) : sum(cuts[: i + 1])] for i in range(3)]
    if re.search(r"[A-Za-z]", written) or len(parts) != len(order) or not set(order) <= set(_ORDER):
        return None
    values = dict(zip(order, parts, strict=True))
    month = int(values["m"]) if "m" in values else 0
    if not ("m" not in values or 1 <= month <= 12) or int(values.get("d", 1)) > 31:
        return None
    said = [MONTHS[month - 1]] if month else []
    said += [ordinal(int(values["d"]))] if "d" in values else []
    said += [say_year(values["y"])] if "y" in values else []
    return " ".join(said)
