"""Roman numerals: which capitals (and small letters after `page` or `Act`) are one, and whether they count, order or date."""

from __future__ import annotations

import re

from voicegraft.text.english.numbers import cardinal, ordinal, year
from voicegraft.text.english.sentences import STARTERS
from voicegraft.text.english.tokens import Match, Piece, Rule, Said, after, before, one_of, rule
from voicegraft.text.english.words import table, word_set
from voicegraft.text.patterns import lazy

_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
ROMAN = r"(?=[IVXLCDM])M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
_NUMERAL = rf"{ROMAN}(?![A-Za-z0-9])"
_RULERS = lazy(
    rf"\b(?i:(?:{one_of(word_set('rulers'))})(?:\ [A-Z][a-z]+)?"
    r"|(?:King|Queen|Pope|Emperor|Empress|Tsar|Kaiser|Prince|Sultan)(?:\ [A-Z][a-z]+){1,2})\ $",
    re.VERBOSE,
)
_PARTS = word_set("parts") | word_set("numbered") | {word.capitalize() for word in table("counted")}
_PART = lazy(
    rf"\b(?i:(?P<word>{one_of(word for word in _PARTS if len(word) > 2)})(?:\.?\ |\.)"
    rf"|(?P<short>{one_of(word for word in _PARTS if len(word) < 3)})\.\ ?)$",
    re.VERBOSE,
)
_ALL_LETTERS = word_set("all numerals")
_LIST = lazy(r"^\W*$")
_NAME = lazy(r"\b([A-Z][a-z]+)[ -]$")
_CAPITALS_HEAD = lazy(r"^\W*[A-Z]{4,}\ $", re.VERBOSE)
_RANGE = lazy(rf"\b({ROMAN})\s?[-–]\s?$")
_NO_NUMERALS = word_set("no numerals")


def roman_value(numeral: str) -> int:
    values = [_VALUES[letter] for letter in numeral.upper()]
    return sum(-value if value < max(values[i:]) else value for i, value in enumerate(values))


def _say_roman(match: Match) -> Said:
    numeral, tail = match["numeral"], match["of"] or ""
    if not (numeral.isupper() or numeral.islower()):
        return None
    ahead, behind = before(match), after(match)
    upper = numeral.upper()
    value = roman_value(numeral)
    number = year(value) if len(upper) >= 4 and 1000 <= value < 2100 else cardinal(value, " ")
    if (
        re.match(r"\ (?:century|centuries|Olympiad|Olympic|Army|Corps|Legion|Dynasty|dynasty)\b", behind)
        and numeral.isupper()
    ):
        return ordinal(value)
    part = _PART.search(ahead)
    if part:
        is_word = (
            upper == "I"
            and re.match(r"\ [a-z']+", behind)
            and not re.match(r"\ (?:of|and|to|is|was|in|on|for|at|or|has|the)\b", behind)
        )
        letter_like = (
            not tail
            and len(numeral) == 1
            and (
                (upper in "CDLM" and (part["word"] or part["short"]).lower() not in _ALL_LETTERS)
                or is_word
                or numeral in "cdlm"
            )
        )
        return None if letter_like else cardinal(value, " ") + tail
    if numeral.islower():
        return _small(match, ahead, behind, value)
    ruler = _RULERS.search(ahead)
    if ruler and (
        len(numeral) > 1
        or upper in "VX"
        or re.search(r"(?i)\b(?:King|Queen|Pope|Emperor|Tsar|Kaiser|Prince)\b", ruler.group())
        or (
            ruler.group()[0].isupper()
            and upper == "I"
            and re.match(r"[,.;:)]|$|'s|\ (?:of|was|and|had|died|became|ruled|reigned)\b", behind + tail)
        )
    ):
        return f"the {ordinal(value)}{tail}"
    if upper == "I" and re.search(r"\b(?:World War|Elizabeth|Apollo|Title|Type|Phase|Stage|Part) $", ahead):
        return number + tail
    if _alone(match, upper, ahead, behind):
        return number
    ranged = _RANGE.search(ahead)
    if ranged and len(ranged[1] + numeral) > 2:
        return number
    if len(numeral) == 1:
        return None
    if _CAPITALS_HEAD.match(match.string[: match.start()]):
        return number  # ADVENTURE IV
    name = _NAME.search(ahead)
    if (
        name
        and name[1].lower() not in STARTERS
        and not (ahead.endswith("-") and len(numeral) < 2)
        and upper not in ("CD", "MD", "DC", "CV", "MC", "MI", "DI", "LI")
    ):
        return number + tail
    if upper in _NO_NUMERALS:
        return None
    if set(upper) <= set("IVX") or len(upper) >= 4:
        return number + tail
    return None


def _alone(match: Match, upper: str, ahead: str, behind: str) -> bool:
    """Whether the numeral is the number of a line or of a list: `VII`, `II-`, `II. Methods`, `(iv)`, `I. Introduction`."""
    if match["of"] or not _LIST.match(match.string[: match.start()]):
        return bool(len(upper) > 1 and ahead.endswith("(") and behind.startswith(")") and set(upper) <= set("IVX"))
    rest = behind.strip(" .-–:)—]")
    if not rest:
        return len(upper) > 1
    if not behind.startswith((". ", ") ", ": ", " - ", " – ")):
        return False
    if len(upper) > 1:
        return True
    return upper in "IVX" and not re.search(r"[.?!]['\")\]]*$", behind) and not re.match(r"\.\ [A-Z]\.", behind)


def _small(match: Match, ahead: str, behind: str, value: int) -> Said:
    """Small numerals count in lists and after page ranges: `(ii)`, `iv. Rinse`, `xii-xiv`."""
    numeral = match["numeral"]
    in_brackets = re.search(r"(?:^|\s)\($", ahead) and behind.startswith(")")
    opens = _LIST.match(match.string[: match.start()]) and re.match(r"[.)]\s|[.)]$", behind)
    alone = match.string.strip() == numeral and set(numeral) <= set("ivx")
    ranged = re.search(r"\b(?i:page|pages|pp?\.)\ [ivxlc]+\s?[-–]\s?$", ahead)
    if set(numeral) <= set("ivxlc") and (
        (len(numeral) > 1 and (in_brackets or opens or alone))
        or (numeral in "iv" and in_brackets)
        or (numeral in "ivx" and opens)
        or ranged
    ):
        return cardinal(value, " ")
    return None


def _say_war(match: Match) -> Said:
    return f"World War {cardinal(roman_value(match['numeral']))}{match['of'] or ''}"


RULES: list[Rule] = [
    rule(
        r"(?!ID|X[CD])(?P<numeral>(?=[IVX])X{0,2}(?:IX|IV|V?I{0,3}))(?P<letter>[A-E])(?!\w)",
        lambda m: (
            [
                Piece(cardinal(roman_value(m["numeral"])), m.start(), m.end("numeral")),
                Piece(m["letter"].replace("A", "Ay"), m.start("letter"), m.end()),
            ]
            if _PART.search(before(m))
            else None
        ),
    ),
    rule(r"WW[ -]?(?P<numeral>I{1,3}|IV)(?P<of>'s)?(?![\w])", _say_war),
    rule(
        rf"(?P<numeral>{ROMAN})(?:st|nd|rd|th)\b",
        lambda m: ordinal(roman_value(m["numeral"])) if len(m["numeral"]) > 1 else None,
    ),
    rule(rf"(?P<numeral>{_NUMERAL})(?P<of>'s)?(?![\w']|[&@])", _say_roman),
    rule(rf"(?P<numeral>(?i:{ROMAN})(?<![A-Z])(?![A-Za-z0-9]))(?P<of>'s)?(?![\w'])", _say_roman),
]
