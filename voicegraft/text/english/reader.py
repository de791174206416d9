"""Reads one sentence: every token of it, where it stands, is said in its context.

The text is never rewritten. At each place the rules of what may begin there are tried in order; the first that says something
wins, and its words keep the slice that they say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from voicegraft.text.english import dates, figures, letters, measures, money, names, roman, symbols
from voicegraft.text.english.capitals import CAPITALS, loud_places, read_capitals
from voicegraft.text.english.characters import Skipped, fold
from voicegraft.text.english.electronic import addresses, read_address
from voicegraft.text.english.letters import name_letters
from voicegraft.text.english.noise import noise
from voicegraft.text.english.numbers import digits
from voicegraft.text.english.tokens import Piece, Rule, Said
from voicegraft.text.english.words import table, word_set
from voicegraft.text.units import WORD

_CURRENCIES = "$£€¥₩₹₽₺₴₦₫₱₪฿₿"
_NUMERIC: list[Rule] = [
    *names.PHONE_RULES,
    *names.RULES[:2],
    *dates.NUMERIC_RULES,
    *letters.RULES[:2],
    *symbols.NUMBER_RULES,
    *money.AFTER_RULES,
    *measures.RULES,
    *figures.RULES,
]
_SIGNED: list[Rule] = [
    *names.PHONE_RULES,
    *money.RULES,
    *money.AFTER_RULES,
    *measures.RULES,
    *figures.RULES,
    *symbols.RULES,
]
_LETTERS: list[Rule] = [
    *letters.RULES[:2],
    *money.RULES,
    *symbols.LETTER_RULES,
    *dates.NAME_RULES,
    *names.RULES[:2],
    *measures.UNIT_RULES,
    *roman.RULES,
    *names.RULES[2:],
    *figures.RULES[:2],
    *letters.RULES[2:],
]
_SYMBOLS: list[Rule] = symbols.RULES
_SIGNS = frozenset(f"-–+#~.('{_CURRENCIES}")
_PLAIN = re.compile(r"[A-Z]?[a-z]+(?:'[a-z]+)?(?=[ ,;:!?\")\]]|\.(?: |$)|$|-[a-z]{2})")
_WORD = re.compile(r"'(?:tis|twas|em|til|cause|bout|round|n)\b|[A-Za-z]+(?:'[A-Za-z]+)*", re.IGNORECASE)
_ENDINGS = re.compile(r"'(?:s|ll|re|ve|d|t|m)\b", re.IGNORECASE)
_PLURAL = re.compile(r"([A-Za-z]+)\((e?s)\)")
_TRIPLE = re.compile(r"([A-Za-z])\1\1")
# Words that a rule may look at; all others are said as they stand.
_TABLES = ("titles", "streets", "directions", "counted", "short forms", "scripture", "units")
_LOOK = frozenset(
    word.lower().rstrip(".")
    for words in (*map(table, _TABLES), table("scripture").values(), word_set("books"), dates.NAMES, ("Rs",))
    for key in words
    for word in key.split()
)
_ROMAN_LETTERS = re.compile(r"[ivxlcdm]+", re.IGNORECASE)
_MARKS = frozenset(",.?!;:")
_GLUE = "-"


@dataclass(frozen=True)
class Reading:
    """What is said of a sentence, and for each word of it the slice of what is written."""

    text: str
    spans: tuple[tuple[int, int], ...]


def read(written: str, skipped: Skipped) -> Reading:
    """One sentence as it is said; what cannot be goes to `skipped`."""
    folded = fold(written, skipped.add)
    text = folded.text
    for start, end in noise(text):
        skipped.add(text[start:end])
        text = text[:start] + " " * (end - start) + text[end:]
    pieces = _pieces(text)
    spoken = name_letters(tidy(join(pieces)))
    if not any(map(str.isalpha, spoken)):
        return Reading("", ())
    spoken = _finish(text, spoken)
    spans = []
    for piece in pieces:
        end = piece.end
        while end > piece.start + 1 and text[end - 1] in ". ":
            end -= 1
        spans += [folded.span(piece.start, end)] * len(WORD.findall(piece.words))
    return Reading(spoken, tuple(spans))


def _pieces(text: str) -> list[Piece]:
    loud = loud_places(text) if any(map(str.isupper, text)) else frozenset()
    found = {match.start(): match for match in addresses(text)}
    has_triples = bool(_TRIPLE.search(text))
    pieces: list[Piece] = []
    place = 0
    while place < len(text):
        character = text[place]
        if character.isspace():
            place += 1
            continue
        address = found.get(place)
        if address:
            pieces.append(Piece(read_address(address.group()), place, address.end()))
            place = address.end()
            continue
        ending = _ENDINGS.match(text, place)
        if ending and pieces and pieces[-1].end == place and pieces[-1].words[-1:].isalpha():
            last = pieces.pop()
            pieces.append(Piece(last.words + ending.group().lower(), last.start, ending.end()))
            place = ending.end()
            continue
        said: Said = None
        if character.isalpha():
            plain = None if has_triples else _PLAIN.match(text, place)
            if plain and not _is_looked_at(plain.group()):
                pieces.append(Piece(plain.group(), place, plain.end()))
                place = plain.end()
                continue
            rules = _LETTERS
        elif character.isdigit():
            rules = _NUMERIC
        else:
            rules = _SIGNED if character in _SIGNS else _SYMBOLS
        for pattern, say in rules:
            match = pattern.match(text, place)
            if match:
                said = say(match)
                if said is not None:
                    break
        if said is None or match is None:
            fallback, place = _fallback(text, place, loud)
            pieces += fallback
        else:
            pieces += [Piece(said, place, match.end())] if isinstance(said, str) else said
            place = match.end()
    return pieces


def _is_looked_at(word: str) -> bool:
    small = word.lower()
    return len(word) == 1 or small in _LOOK or bool(_ROMAN_LETTERS.fullmatch(small))


def _fallback(text: str, place: int, loud: frozenset[int]) -> tuple[list[Piece], int]:
    """A word as it stands, a number that is too long for one, or a mark."""
    if number := re.match(r"\d+", text[place : place + 400]):
        return [Piece(digits(number.group()), place, place + number.end())], place + number.end()
    word = _WORD.match(text, place)
    if word is None:
        character = text[place]
        if character == "." and text[place - 1 : place].isalpha() and text[place + 1 : place + 2].islower():
            return [Piece("dot", place, place + 1)], place + 1
        if character == "." and re.match(r"[A-Za-z0-9]\.[A-Z](?![a-z])", text[max(0, place - 1) : place + 3]):
            return [], place + 1  # Section IV.B
        mark = character if character in _MARKS else "," if character in "()[]{}" else ""
        return [Piece(mark, place, place + 1)] if mark else [], place + 1
    capitals = CAPITALS.match(text, place)
    if capitals and capitals.end() == word.end():
        said = read_capitals(capitals, place in loud)
    elif word.group() == "A" and _is_loud_article(text, place, loud):
        said = "a"
    else:
        said = word.group()
    several = _PLURAL.match(text, place)
    if several and several.end(1) == word.end():
        return [Piece(said + several[2], place, several.end())], several.end()
    return [Piece(said, place, word.end())], word.end()


def _is_loud_article(text: str, place: int, loud: frozenset[int]) -> bool:
    return (
        bool(loud)
        and bool(re.match(r"A [A-Z]{2}", text[place : place + 4]))
        and bool(re.search(r"[A-Za-z] $", text[max(0, place - 2) : place]))
    )


def join(pieces: list[Piece]) -> str:
    """The words with single spaces, marks after the words they follow, hyphens between theirs."""
    parts: list[str] = []
    glued = True
    for piece in pieces:
        if piece.words == _GLUE:
            parts.append(_GLUE)
            glued = True
        elif piece.words in _MARKS:
            parts.append(piece.words)
            glued = False
        elif piece.words:
            parts.append(piece.words if glued else f" {piece.words}")
            glued = False
    return "".join(parts)


_TIDY = [
    (re.compile(r"^[,;:.?!\s]+"), ""),
    (re.compile(r"(?<=[,;:.?!]),+"), ""),
    (re.compile(r"[,;:]+(?=[.?!;:])"), ""),
    (re.compile(r"([?!])[?!]+"), r"\1"),
    (re.compile(r"\.{4,}"), "..."),
]


def tidy(spoken: str) -> str:
    """Marks that stand together become one."""
    for pattern, mark in _TIDY:
        spoken = pattern.sub(mark, spoken)
    return spoken.strip()


_ENDING = re.compile(r"[.?!]['\")\]]*$")
_FEW_WORDS = 3  # a fragment of so many is no sentence: the stop of its abbreviation ends nothing


def _finish(text: str, spoken: str) -> str:
    """An abbreviation takes the stop of its sentence along, brackets that close it leave a comma."""
    spoken = spoken.rstrip(",") if not text.rstrip().endswith(",") else spoken
    if _ENDING.search(text.rstrip()) and len(text.split()) > _FEW_WORDS and not spoken.endswith((".", "?", "!")):
        spoken = spoken.rstrip(",;:") + "."
    if text.lstrip()[:1].isupper():
        spoken = spoken[0].upper() + spoken[1:]
    return spoken
