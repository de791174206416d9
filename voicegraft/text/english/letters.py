"""Letters that are said by their names, names that programs use, and codes that are spelled."""

from __future__ import annotations

import re

from voicegraft.text.english.capitals import is_word
from voicegraft.text.english.figures import number_name
from voicegraft.text.english.numbers import DIGITS, cardinal, digits
from voicegraft.text.english.tokens import Match, Piece, Rule, Said, rule
from voicegraft.text.english.words import word_set
from voicegraft.text.units import WORD

_MIXED = r"(?=[A-Z]*[a-z]+[A-Z])[A-Za-z]{2,64}(?![A-Za-z])"
_PIECES = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
_SURNAME = re.compile(r"(?:Mc|Mac|Fitz|La|Le|De|Di|Da|Du|Van|Von)[A-Z][a-z]{2,}")  # McDonald, LaMar, DiCaprio
_PAIR = re.compile(r"[B-DF-HJ-NP-TV-Z][aeiou]", re.IGNORECASE)
_LONGER = r"(?=[A-Za-z]?[a-z]*([a-z])\1\1)(?!w{3}|[ivxlcdm]+\b)[A-Za-z][a-z]*(?![A-Za-z])"
_REPEATED = re.compile(r"([a-z])\1{2,}(?=([a-z]?))")
_UUID = r"(?i:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})(?![\w-])"
_TURNS = re.compile(r"(?<=\d)(?=[A-Za-z])|(?<=[A-Za-z])(?=\d)")
_MOST_TURNS = 3  # between letters and digits, in what is no code
# Sounds that are written without a vowel, as the voice can spell them.
_SOUNDS = {"hm": "hum", "hmm": "hum", "mm": "um", "mmm": "um", "shh": "sh", "psst": "pst"}
_VOWELLESS = frozenset(("sh", "pst", "tsk", "br", "brr", "gr", "grr", "nth", "zz", "zzz", "tv's"))
_VOWELS = frozenset("aeiouyAEIOUY")
_BETWEEN = word_set("letter pairs")
_SUMS = word_set("sums")
_CUES = word_set("letter cues")
_NUMBERS = frozenset(map(cardinal, (*range(20), *range(20, 100, 10))))
_GLUED_A = (
    r"a(?=[<>=+*/^)\]]|\s+(?:is\ not\ equal\ to|at\ most|at\ least)\ )"
    r"|(?<=[<>=+*/^])a(?![\w'.])|(?<=[(\[])a(?=[,;])|(?<=\d)a(?![\w.'])"
)
NAME_OF_A = "Ay"  # alone, "A" is the article to the voice


def _spell(code: str) -> str:
    return " ".join(DIGITS[int(c)] if c.isdigit() else c.upper() for c in code if c.isalnum())


def _say_code(match: Match) -> Said:
    code = match.group()
    return _spell(code) if len(_TURNS.findall(code)) > _MOST_TURNS else None


def _say_letters_digits(match: Match) -> Said:
    """`BJ1285` is BJ one two eight five, `A380` A three hundred eighty, `B2A23C` B two A twenty three C."""
    said = []
    for part in re.finditer(r"[A-Za-z]+|\d+", match.group()):
        token = part.group()
        if token.isdigit():
            long = len(token) > 3 and not (len(token) == 4 and token[:2] in ("19", "20"))
            words = digits(token) if long else number_name(token)
        else:
            words = _say_stem(token)
        said.append(Piece(words, match.start() + part.start(), match.start() + part.end()))
    return said


def _say_stem(letters: str) -> str:
    """Letters before digits: spelled, unless they are a word."""
    if re.fullmatch(_MIXED, letters):
        return split_name(letters)
    small = letters.lower()
    if letters.isupper() and len(letters) > 1:
        return small if is_word(small) and len(letters) > 3 else letters
    return letters.upper() if len(letters) == 1 else letters


def _say_mixed(match: Match) -> Said:
    return split_name(match.group())


def _say_starred(match: Match) -> Said:
    """`M*A*S*H`."""
    letters = match.group().replace("*", "")
    return letters.capitalize() if is_word(letters.lower()) else letters


def _say_long(match: Match) -> Said:
    return _REPEATED.sub(_sober, match.group())


RULES: list[Rule] = [
    rule(_UUID, lambda m: ", ".join(map(_spell, m.group().split("-")))),
    rule(r"(?=\w*\d)(?=\w*[A-Za-z])[A-Za-z0-9]{8,64}=*(?![\w-])", _say_code),
    rule(r"[A-Za-z]{1,24}\d[A-Za-z0-9]{0,60}(?![A-Za-z0-9]|[.,]\d)", _say_letters_digits),
    rule(r"[A-Z](?:\*[A-Z]){2,8}(?!\w)", _say_starred),
    rule(_MIXED, _say_mixed),
    rule(_LONGER, _say_long),
    rule(_GLUED_A, lambda m: NAME_OF_A, re.IGNORECASE),
]


def name_letters(spoken: str) -> str:
    """Makes the voice say single letters by their names, and words without a vowel letter by letter.

    Capitals are spelled, so single letters become capitals; "a" and "A" stay where they are the article.
    """
    words = list(WORD.finditer(spoken))
    pieces, end = [], 0
    for index, match in enumerate(words):
        word = match.group()
        if len(word) == 1 or _VOWELS.isdisjoint(word) or word in ("A's", "A'S"):
            pieces += [spoken[end : match.start()], _name(spoken, words, index)]
            end = match.end()
    return "".join([*pieces, spoken[end:]])


def split_name(name: str) -> str:
    """`getName` is get name; `PhD` and `DVDs` stay together."""
    parts = _PIECES.findall(name)
    if _SURNAME.fullmatch(name):
        return name.capitalize()
    if len(name) <= 4 and all(len(part) <= 2 for part in parts) and not all(map(_PAIR.fullmatch, parts)):
        return name.upper()  # PhD, NaCl
    if name[:-1].isupper() and name.endswith("s"):
        return name  # DVDs
    return " ".join(part.lower() if part.istitle() and name[0].islower() else part for part in parts)


def _sober(match: re.Match[str]) -> str:
    letter, following = match.groups()
    twice = letter == "r" or (letter in "eo" and following and following not in "aeiouy")
    return letter * (2 if twice else 1)


def _name(spoken: str, words: list[re.Match[str]], index: int) -> str:
    match = words[index]
    word, after = match.group(), spoken[match.end() : match.end() + 4]
    if word in ("a", "A"):
        return NAME_OF_A if _is_letter_a(words, index, after) else word
    if word in ("A's", "A'S"):
        return f"{NAME_OF_A}'s"
    small = word.lower()
    if small in _SOUNDS and not word.isupper():
        return _SOUNDS[small].capitalize() if word[0].isupper() else _SOUNDS[small]
    is_cut = after[:1] == "'" or spoken[match.start() - 1 : match.start()] == "'"  # 'n
    if len(word) == 1:
        return word if is_cut else word.upper()
    is_spelled = word.isalpha() and not re.search(r"[aeiouy]", small) and small not in _VOWELLESS and not is_cut
    if not is_spelled or re.fullmatch("[A-Z]{2,}s", word):
        return word
    return word.upper()


def _is_letter_a(words: list[re.Match[str]], index: int, after: str) -> bool:
    word = words[index].group()
    around = [words[at].group() if 0 <= at < len(words) else "" for at in range(index - 2, index + 3)]
    two_before, before, _, following, two_after = around

    def is_letter(other: str, place: int) -> bool:
        """A single letter of the same case, which is no article and no pronoun; `a T-shirt` has none."""
        if word == other == "A":
            return True
        if len(other) != 1 or other in "aAI" or other.isupper() != word.isupper():
            return False
        match = words[index + place]
        return word == "A" or match.string[match.end() : match.end() + 1] not in ("-", "'")

    if len(words) == 1:
        return True
    if after[:1] == "-":
        return (word == "A" and not following.endswith("ing")) or is_letter(following, 1)
    if (after[:1] in tuple(".,;:?!") and not after.startswith("..")) or (not after and word == "A"):
        return True
    ends_series = is_letter(before, -1) and (word == "A" or len(following) < 2)  # give b a chance
    if is_letter(following, 1) or ends_series:
        return True
    if (following in _BETWEEN and is_letter(two_after, 2)) or (before in _BETWEEN and is_letter(two_before, -2)):
        return True
    is_article = before.lower() in _NUMBERS and following[:1].isupper()  # 33 A London Cab Horse
    return following in _SUMS or before == "letter" or (word == "A" and before.lower() in _CUES and not is_article)
