"""Folds any Unicode text to the characters that English is written in, and tells what it had to leave out."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from voicegraft.text.english.words import table
from voicegraft.text.patterns import lazy

# Characters whose meaning is a spelling that compatibility normalisation would lose or not give.
_SPELLINGS = {char: json.loads(said) for chars, said in table("characters").items() for char in chars} | {
    "\u2028": "\n",
    "\u2029": "\n\n",
    "\u0085": "\n",
    **{char: char for char in "–°£€¥₩₹¢×₽₺₴₦₫₱₪฿₿Ωµ\u00a0"},
    **dict.fromkeys("\u2007\u2009\u200a\u202f", "\u00a0"),
    "`": "'",
}
# Letters of other alphabets that look like Latin ones, in words that mix the two.
_LOOKALIKES = dict(zip("аеорсухіјѕһԁԛԝАВЕКМНОРСТУХІЈЅ", "aeopcyxijshdqwABEKMHOPCTYXIJS", strict=True)) | dict(
    zip("οανικρυΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "oavikpuABEZHIKMNOPTYX", strict=True)
)
_FOREIGN = re.compile("[Ͱ-Ͽа-ԯА-Яѐ-џ]")
_MIXED_WORD = lazy(r"[^\W\d_]*[Ͱ-Ͽа-ԯА-Яѐ-џ][^\W\d_]*")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_FRACTIONS = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞↉"
_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ"
# Before a power; what stands after other words and marks is the number of a note.
_BASE = lazy(r"(?:(?<![A-Za-z])(?:[A-Za-z]{1,2}|sin|cos|tan|log|sec)|[\d)\]|]|[Ͱ-Ͽ])$")
_ION = lazy(r"[A-Za-z)\d₀-₉]$")
_SPECIAL = re.compile(rf"([{_RAISED}]+)|([{_FRACTIONS}])|([^\x00-\x7f{_RAISED}{_FRACTIONS}]+|[\x00-\x1f\x7f`]+)")
_MICRO = lazy(r"[µμ](?=(?:[gmslLFAVWMTH]|mol|Hz|Sv|Pa)(?![A-Za-z]))")
_LATIN_NAME = lazy(
    r"(?:NEGATIVE (?:SQUARED|CIRCLED) )?LATIN (SMALL |CAPITAL )?LETTER (?:SMALL CAPITAL )?([A-Z]{1,2})\b"
)
_GREEK_NAME = lazy(r"GREEK (?:SMALL|CAPITAL) LETTER (?:FINAL )?([A-Z]+)")
_MAX_RUN = 40  # characters of one unspeakable run that are reported
_MAX_RUNS = 100  # different runs that are reported


class Skipped:
    """The different runs of characters that are left out: the beginnings of long ones, and not endlessly many."""

    def __init__(self) -> None:
        self._runs: dict[str, None] = {}

    def add(self, run: str) -> None:
        if len(self._runs) < _MAX_RUNS:
            self._runs.setdefault(run if len(run) <= _MAX_RUN else run[: _MAX_RUN - 1] + "…")
        else:
            self._runs.setdefault("…")

    @property
    def runs(self) -> tuple[str, ...]:
        return tuple(self._runs)


@dataclass(frozen=True)
class Folded:
    """Text in the characters of English, and for each of them the place of the one that it stands for."""

    text: str
    places: Sequence[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The slice of what is written that a slice of the folded text stands for."""
        return self.places[start], self.places[end - 1] + 1


def fold(written: str, leave_out: Callable[[str], None]) -> Folded:
    """Brings text to ASCII and the few symbols that have a reading of their own (° £ € × – ...).

    Accents go, and so do emoji and the letters of other alphabets, which `leave_out` is told; a single Greek letter is
    named, and letters that look like Latin ones become so in a word that has both. Powers become `^2`.
    """
    same = _SURROGATE.sub("\ufffd", written)
    if _FOREIGN.search(same):
        same = _MIXED_WORD.sub(_without_lookalikes, same)
    text: list[str] = []
    places: list[int] = []
    end = 0

    def put(said: str, place: int) -> None:
        text.append(said)
        places.extend([place] * len(said))

    for match in _SPECIAL.finditer(same):
        text.append(same[end : match.start()])
        places.extend(range(end, match.start()))
        raised, fraction, run = match.groups()
        if raised:
            around = same[max(0, match.start() - 4) : match.start()], same[match.end() : match.end() + 3]
            put(_power(*around, raised, leave_out), match.start())
        elif fraction:
            follows_digit = same[match.start() - 1 : match.start()].isdigit()
            said = unicodedata.normalize("NFKC", fraction).replace("⁄", "/")
            put(f"{' ' * follows_digit}{said} ", match.start())
        elif run == "★" and re.search(r"\d\s?$", same[max(0, match.start() - 2) : match.start()]):
            put(" stars ", match.start())
        else:
            for said, offset in _fold_run(run, same[match.end() : match.end() + 3], leave_out):
                put(said, match.start() + offset)
        end = match.end()
    if not end:
        return Folded(same, range(len(same)))
    text.append(same[end:])
    places.extend(range(end, len(same)))
    return Folded("".join(text), places)


def _without_lookalikes(match: re.Match[str]) -> str:
    word = match.group()
    has_latin = any(c.isascii() for c in word)
    is_formula = len(word) < 4 and any("Ͱ" <= c <= "Ͽ" for c in word)  # αx
    if has_latin and not is_formula and all(c.isascii() or c in _LOOKALIKES for c in word):
        return "".join(_LOOKALIKES.get(c, c) for c in word)
    return word


def _power(before: str, after: str, raised: str, leave_out: Callable[[str], None]) -> str:
    digits = unicodedata.normalize("NFKC", raised).replace("\u2212", "-")
    if digits[-1] in "+-" and _ION.search(before):
        return f" {digits[:-1]} {'plus' if digits[-1] == '+' else 'minus'} "
    if digits != "1" and (_BASE.search(before) or (digits[0] == "-" and before[-1:].isalpha())):
        return f"^{digits}"
    if digits.isdigit() and not before[-1:].isalnum() and re.match(r"[A-Z][a-z]?(?![A-Za-z])", after):
        return f" {digits} "  # the mass of an isotope
    leave_out(raised)
    return " "


def _fold_run(run: str, after: str, leave_out: Callable[[str], None]) -> Iterator[tuple[str, int]]:
    """What a run of characters beyond ASCII becomes, and where in the run it stands."""
    lost = ""

    for offset, character in enumerate(run):
        said = _SPELLINGS.get(character)
        if character in "µμ" and _MICRO.match(run[offset:] + after):
            said = "µ"
        if said is None:
            said = _fold_character(character, run[max(0, offset - 1) : offset] + run[offset + 1 : offset + 2])
        if said is None or (lost and not said):  # joiners inside an emoji belong to it
            lost += character
            continue
        if lost:
            leave_out(lost)
            lost = ""
            yield " ", offset - 1
        if said:
            yield said, offset
    if lost:
        leave_out(lost)
        yield " ", len(run) - 1


def _fold_character(character: str, neighbours: str) -> str | None:
    """What to write for a character: "" for one without any sound, None for one that cannot be said."""
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Mn", "Me"):
        return ""
    if category.startswith("Z"):
        return " "
    if category == "Nd":
        return str(unicodedata.digit(character))
    compatible = unicodedata.normalize("NFKC", character)
    if compatible.isascii():
        return compatible
    if compatible in ("°C", "°F"):
        return compatible
    name = unicodedata.name(character, "")
    latin = _LATIN_NAME.match(name)
    if latin:
        return latin.group(2) if latin.group(1) == "CAPITAL " else latin.group(2).lower()
    greek = _GREEK_NAME.match(unicodedata.name(compatible[0], "")) if len(compatible) == 1 else None
    if greek and not any("GREEK" in unicodedata.name(other, "") for other in neighbours):
        return f" {'lambda' if greek.group(1) == 'LAMDA' else greek.group(1).lower()} "
    if category.startswith("P"):
        return " "
    return None
