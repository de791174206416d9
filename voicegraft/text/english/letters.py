"""Letters that are said by their names, names that programs use, and codes that are spelled."""

from __future__ import annotations

import re

from voicegraft.text.english.electronic import DIGITS
from voicegraft.text.english.words import word_set
from voicegraft.text.units import WORD

_MIXED = re.compile(r"(?<![A-Za-z])(?=[A-Z]*[a-z]+[A-Z])[A-Za-z]{2,64}(?![A-Za-z])")
_PIECES = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
_PAIR = re.compile(r"[B-DF-HJ-NP-TV-Z][aeiou]", re.IGNORECASE)
_NUMBERED = re.compile(r"(?<![\w.,/-])([A-Za-z]{1,3})(?!(?:19|20)\d\d(?!\d))(\d{4,7})(?![\w-]|[.,]\d)")
_LONGER = re.compile(r"(?<![A-Za-z'])(?=[A-Za-z]?[a-z]*([a-z])\1\1)(?!w{3}|[ivxlcdm]+\b)[A-Za-z][a-z]*(?![A-Za-z])")
_REPEATED = re.compile(r"([a-z])\1{2,}(?=([a-z]?))")
_CODE = re.compile(r"(?<![\w.,/-])(?=\w*\d)(?=\w*[A-Za-z])[A-Za-z0-9]{8,64}=*(?![\w-])")
_UUID = re.compile(r"(?i)(?<![\w-])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![\w-])")
_TURNS = re.compile(r"(?<=\d)(?=[A-Za-z])|(?<=[A-Za-z])(?=\d)")
_MOST_TURNS = 3  # between letters and digits, in what is no code
# Sounds that are written without a vowel, as the voice can spell them.
_SOUNDS = {"hm": "hum", "hmm": "hum", "mm": "um", "mmm": "um", "shh": "sh", "psst": "pst"}
_VOWELLESS = frozenset(("sh", "pst", "tsk", "br", "brr", "gr", "grr", "nth", "zz", "zzz", "tv's"))
_BETWEEN = word_set("letter pairs")
_SUMS = word_set("sums")
_CUES = word_set("letter cues")
_GLUED_A = re.compile(r"(?<![\w'.])[aA](?=[<>=+*/^)\]])|(?<=[<>=+*/^])[aA](?![\w'.])|(?<=[(\[])[aA](?=[,;])")
NAME_OF_A = "Ay"  # alone, "A" is the article to the voice


def read_names(sentence: str) -> str:
    """Words out of program names (`getName`, `MAX_SIZE`), sober words out of long ones (`sooo`), and codes spelled."""
    sentence = _UUID.sub(lambda m: ", ".join(map(_spell, m.group().split("-"))), sentence)
    sentence = _CODE.sub(
        lambda m: _spell(m.group()) if len(_TURNS.findall(m.group())) > _MOST_TURNS else m.group(), sentence
    )
    sentence = _NUMBERED.sub(lambda m: f"{m[1]} {_spell(m[2])}", sentence)
    sentence = _MIXED.sub(_split_name, sentence)
    sentence = _LONGER.sub(lambda m: _REPEATED.sub(_sober, m.group()), sentence)
    sentence = _GLUED_A.sub(NAME_OF_A, sentence)
    return re.sub(r"(?<=\d)a\b(?![.'])", "A", sentence)


def name_letters(spoken: str) -> str:
    """Makes the voice say single letters by their names, and words without a vowel letter by letter.

    Capitals are spelled, so single letters become capitals; "a" and "A" stay where they are the article.
    """
    words = list(WORD.finditer(spoken))
    pieces, end = [], 0
    for index, match in enumerate(words):
        pieces += [spoken[end : match.start()], _name(spoken, words, index)]
        end = match.end()
    return "".join([*pieces, spoken[end:]])


def _spell(code: str) -> str:
    return " ".join(DIGITS[int(c)] if c.isdigit() else c.upper() for c in code if c.isalnum())


def _split_name(match: re.Match[str]) -> str:
    name = match.group()
    pieces = _PIECES.findall(name)
    if name.startswith("Mc"):
        return name.capitalize()
    if len(name) <= 4 and all(len(piece) <= 2 for piece in pieces) and not all(map(_PAIR.fullmatch, pieces)):
        return name.upper()  # PhD, NaCl
    if name[:-1].isupper() and name.endswith("s"):
        return name  # DVDs
    return " ".join(piece.lower() if piece.istitle() and name[0].islower() else piece for piece in pieces)


def _sober(match: re.Match[str]) -> str:
    letter, following = match.groups()
    twice = letter == "r" or (letter in "eo" and following and following not in "aeiouy")
    return letter * (2 if twice else 1)


def _name(spoken: str, words: list[re.Match[str]], index: int) -> str:
    match = words[index]
    word, after = match.group(), spoken[match.end() :][:4]
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
    return following in _SUMS or before == "letter" or (word == "A" and before.lower() in _CUES)
