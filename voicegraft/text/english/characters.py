"""Folds any Unicode text to the characters that English is written in, and tells what it had to leave out."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable

from voicegraft.text.english.words import table

# Characters whose meaning is a spelling that compatibility normalisation would lose or not give.
_SPELLINGS = {char: json.loads(said) for chars, said in table("characters").items() for char in chars} | {
    "\u2028": "\n",
    "\u2029": "\n\n",
    "\u0085": "\n",
    **{char: char for char in "–°£€¥₩₹¢×"},
}
# Letters of other alphabets that look like Latin ones, in words that mix the two.
_LOOKALIKES = dict(zip("аеорсухіјѕһԁԛԝАВЕКМНОРСТУХІЈЅ", "aeopcyxijshdqwABEKMHOPCTYXIJS", strict=True)) | dict(
    zip("οανικρυΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "oavikpuABEZHIKMNOPTYX", strict=True)
)
_MIXED_WORD = re.compile(r"[^\W\d_]*[Ͱ-Ͽа-ԯА-Яѐ-џ][^\W\d_]*")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_FRACTION = re.compile(r"(\d?)([¼-¾⅐-⅞↉])")
_SUPERSCRIPT = re.compile(r"(^|.)([⁰¹²³⁴-⁹]+)", re.DOTALL)
_UNIT = re.compile(r"\b(?:mm|cm|dm|m|km|in|ft|yd|mi)$")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_LINE_END = re.compile(r"\r\n?|[\x0b\x0c]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_LATIN_NAME = re.compile(
    r"(?:NEGATIVE (?:SQUARED|CIRCLED) )?LATIN (SMALL |CAPITAL )?LETTER (?:SMALL CAPITAL )?([A-Z]{1,2})\b"
)
_GREEK_NAME = re.compile(r"GREEK (?:SMALL|CAPITAL) LETTER (?:FINAL )?([A-Z]+)")
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


def fold(text: str, leave_out: Callable[[str], None]) -> str:
    """Brings text to ASCII and the few symbols that the grammar reads (° £ € ¥ ₩ ₹ ¢ × –).

    Accents go, and so do emoji and the letters of other alphabets, which `leave_out` is told; a single Greek letter is
    named, and letters that look like Latin ones become so in a word that has both.
    """
    text = _CONTROL.sub("", _LINE_END.sub("\n", text))
    if not text.isascii():
        text = _SURROGATE.sub("\ufffd", text)
        text = _MIXED_WORD.sub(_without_lookalikes, text)
        text = _FRACTION.sub(_fraction, text)
        text = _SUPERSCRIPT.sub(_superscript, text)
        text = _NOT_ASCII.sub(lambda run: _fold_run(run.group(), leave_out), text)
    return text


def _without_lookalikes(match: re.Match[str]) -> str:
    word = match.group()
    has_latin = any(c.isascii() for c in word)
    is_formula = len(word) < 4 and any("Ͱ" <= c <= "Ͽ" for c in word)  # αx
    if has_latin and not is_formula and all(c.isascii() or c in _LOOKALIKES for c in word):
        return "".join(_LOOKALIKES.get(c, c) for c in word)
    return word


def _fraction(match: re.Match[str]) -> str:
    """`1½` is one and a half, where compatibility normalisation would make eleven halves of it."""
    whole, character = match.groups()
    return f"{whole} {unicodedata.normalize('NFKC', character).replace('⁄', '/')} "


def _superscript(match: re.Match[str]) -> str:
    """Powers are said, footnote marks are not."""
    before, raised = match.groups()
    digits = unicodedata.normalize("NFKC", raised)
    if _UNIT.search(match.string[max(0, match.start() - 3) : match.end(1)]):
        return f"{before}{digits}"  # the grammar knows m2 and km3
    is_variable = before.isalpha() and not match.string[max(0, match.start() - 1) : match.start()].isalpha()
    if before.isdigit() or before == ")" or is_variable:
        return before + {"2": " squared ", "3": " cubed "}.get(digits, f" to the power of {digits} ")
    return before


def _fold_run(run: str, leave_out: Callable[[str], None]) -> str:
    """Folds one run of characters beyond ASCII."""
    folded: list[str] = []
    lost: list[str] = []

    def close() -> None:
        if lost:
            leave_out("".join(lost))
            lost.clear()
            folded.append(" ")

    for index, character in enumerate(run):
        said = _SPELLINGS.get(character)
        if said is None:
            said = _fold_character(character, run[max(0, index - 1) : index] + run[index + 1 : index + 2])
        if said is None:
            lost.append(character)
        elif said or not lost:  # joiners inside an emoji belong to it
            close()
            folded.append(said)
        else:
            lost.append(character)
    close()
    return "".join(folded)


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
