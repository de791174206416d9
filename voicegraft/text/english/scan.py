"""The pass over a sentence: at each place the rules of what may begin there are tried until one says something."""

from __future__ import annotations

import re
from functools import lru_cache

from voicegraft.text.english import dates, figures, formulas, letters, measures, money, names, roman, symbols
from voicegraft.text.english.capitals import CAPITALS, loud_places, read_capitals
from voicegraft.text.english.electronic import addresses, read_address
from voicegraft.text.english.numbers import digits
from voicegraft.text.english.tokens import Piece, Rule
from voicegraft.text.english.words import table, word_set

_CURRENCIES = "$£€¥₩₹₽₺₴₦₫₱₪฿₿"
_NUMERIC: list[Rule] = [
    *names.PHONE_RULES,
    *names.FIRST_RULES,
    *dates.NUMERIC_RULES,
    *letters.RULES[:2],
    *formulas.NUMBER_RULES,
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
    *formulas.LETTER_RULES,
    *symbols.LETTER_RULES,
    *dates.NAME_RULES,
    *names.FIRST_RULES,
    *measures.UNIT_RULES,
    *roman.RULES,
    *names.RULES,
    *figures.RULES[:2],
    *letters.RULES[2:],
]
_SIGNS = frozenset(f"-–+#~.('{_CURRENCIES}")
_PLAIN = re.compile(r" ?([A-Z]?[a-z]+(?:'[a-z]+)?)(?=[ ,;:!?\")\]]|\.(?: |$)|$|-[a-z]{2})")
_MARK = re.compile(r"([,;:?!]|\.(?!\S)|\.\.\.)(?=[\s\"')]|$)|\"")  # and quotation marks, which are silent
_WORD = re.compile(r"'(?:tis|twas|em|til|cause|bout|round|n)\b|[A-Za-z]+(?:'[A-Za-z]+)*", re.IGNORECASE)
_ENDINGS = re.compile(r"'(?:s|ll|re|ve|d|t|m)\b", re.IGNORECASE)
_PLURAL = re.compile(r"([A-Za-z]{3,})\((e?s)\)")
_TRIPLE = re.compile(r"([A-Za-z])\1\1")
# Words that a rule may look at; all others are said as they stand.
_TABLES = ("titles", "streets", "old states", "directions", "counted", "short forms", "scripture", "units", "functions")
_LOOK = frozenset(
    word.lower().rstrip(".")
    for words in (
        *map(table, _TABLES),
        table("scripture").values(),
        word_set("books"),
        dates.NAMES,
        ("Rs", "incl", "med", "def", "ret", "pen"),
    )
    for key in words
    for word in key.split()[:1]
)
# Words of these tables that are nothing else between two plain words.
_ELEMENTS = word_set("elements")  # that a symbol may be, where one is spoken of
_IDLE = re.compile(r"(?<=[a-z]) (?:a|in|no|may|did)(?= (?!is |at )[a-z]{2,}[ ,.])")
_ROMAN_LETTERS = re.compile(r"[ivxlcdm]+", re.IGNORECASE)
MARKS = frozenset(",.?!;:")


def scan(text: str) -> list[Piece]:
    """What a folded sentence says, in order."""
    loud = loud_places(text)
    found = {match.start(): match for match in addresses(text)}
    has_triples, has_symbols = bool(_TRIPLE.search(text)), bool(formulas.SYMBOL.search(text))
    pieces: list[Piece] = []
    place = 0
    while place < len(text):
        if not has_triples and (plain := _PLAIN.match(text, place)):
            word, (start, end) = plain[1], plain.span(1)
            looked_at = _is_looked_at(word) or (has_symbols and word in _ELEMENTS)
            if start not in found and (not looked_at or _IDLE.match(text, place)):
                pieces.append(Piece(word, start, end))
                place = end
                continue
        character = text[place]
        ending = _ENDINGS.match(text, place) if character == "'" else None
        if character.isspace():
            place += 1
        elif mark := _MARK.match(text, place):
            pieces += [Piece(mark[1], place, mark.end())] if mark[1] else []
            place = mark.end()
        elif place in found:
            pieces.append(Piece(read_address(found[place].group()), place, found[place].end()))
            place = found[place].end()
        elif ending and pieces and pieces[-1].end == place and pieces[-1].words[-1:].isalpha():
            last = pieces.pop()
            place = ending.end()
            pieces.append(Piece(last.words + ending.group().lower(), last.start, place))
        else:
            said, place = _by_rules(text, place) or _as_it_stands(text, place, loud)
            pieces += said
    return pieces


def _by_rules(text: str, place: int) -> tuple[list[Piece], int] | None:
    character = text[place]
    if character.isalpha():
        rules = _LETTERS
    elif character.isdigit():
        rules = _NUMERIC
    else:
        rules = _SIGNED if character in _SIGNS else symbols.RULES
    for rule in rules:
        match = rule.match(text, place)
        said = rule.say(match) if match else None
        if match and said is not None:
            return ([Piece(said, place, match.end())] if isinstance(said, str) else said), match.end()
    return None


@lru_cache(10_000)
def _is_looked_at(word: str) -> bool:
    small = word.lower()
    return len(word) == 1 or small in _LOOK or bool(_ROMAN_LETTERS.fullmatch(small))


def _as_it_stands(text: str, place: int, loud: frozenset[int]) -> tuple[list[Piece], int]:
    """A word as it stands, a number that is too long for one, or a mark."""
    if number := re.match(r"\d+", text[place : place + 400]):
        return [Piece(digits(number.group()), place, place + number.end())], place + number.end()
    word = _WORD.match(text, place)
    if word is None:
        character = text[place]
        if character == "." and text[place - 1 : place].isalpha() and text[place + 1 : place + 2].islower():
            return [Piece("dot", place, place + 1)], place + 1
        if re.match(r"(?:^|\s)\.[A-Za-z]", text[max(0, place - 1) : place + 2]):
            return [Piece("dot", place, place + 1)], place + 1
        if character == "." and re.match(r"[A-Za-z0-9]\.[A-Z](?![a-z])", text[max(0, place - 1) : place + 3]):
            return [], place + 1  # Section IV.B
        mark = character if character in MARKS else "," if character in "()[]{}" else ""
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
