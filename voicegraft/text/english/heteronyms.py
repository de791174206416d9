"""Heteronyms: which of the two pronunciations of a word its sentence asks for ("I read it now", "I read it yesterday").

``data/heteronyms.ini`` lists the words; ``data/heteronyms.npz`` holds the weights of a logistic regression over what stands
around the word, which ``python -m tools.build_heteronyms`` makes. It loads with the first heteronym that is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from voicegraft.text.units import WORD, Word, words_of

if TYPE_CHECKING:
    import numpy as np

READINGS_FILE = Path(__file__).parent / "data" / "heteronyms.ini"
WEIGHTS_FILE = READINGS_FILE.with_suffix(".npz")
NUM_WEIGHTS = 1 << 18
_VERBS, _VERBS_IN_S, _OTHER = "verb", "verb in -s", "other"
_VOICELESS, _HISSING = frozenset(["f", "k", "p", "t", "th"]), frozenset(["ch", "jh", "s", "sh", "z", "zh"])
_BAG = 8  # words to each side whose place does not count
_NO_WORD = Word("", "", "")

# What a neighbour is, where its ending does not tell.
_KINDS = {
    word: kind
    for kind, words in {
        "the": "the a an this that these those each every another any some no all both either neither",
        "my": "my your his her its our their whose",
        "he": "he she it who that someone everyone nobody",
        "i": "i you we they",
        "him": "him me us them himself themselves itself myself yourself",
        "to": "to",
        "will": "will would can could may might must shall should cannot 'll won't can't couldn't wouldn't shouldn't",
        "do": "do does did don't doesn't didn't let let's please",
        "be": "be is are was were been being am isn't aren't wasn't weren't",
        "have": "have has had having haven't hasn't hadn't",
        "get": "get gets got getting become became becomes seem seems seemed feel felt",
        "in": "in on at by for with from into over under about against between through during without within across",
        "of": "of",
        "and": "and or but nor",
        "if": "if when while because although since as than before after until unless whether so",
        "not": "not never always often also only just ever usually still even already",
        "which": "which what where why how",
        "one": "one two three four five six seven eight nine ten twenty thirty hundred thousand million",
        "very": "very too so quite more most less rather such",
        "up": "up out off down away back together",
    }.items()
    for word in words.split()
}
_ENDINGS = ("ly", "ing", "ed", "s", "tion", "ment", "al", "ous", "ive", "ful", "er", "est", "ic", "y")


@dataclass(frozen=True)
class Heteronym:
    """A word with two pronunciations."""

    group: str  # of words that are told apart alike
    readings: tuple[str, str]  # their names
    phones: tuple[tuple[str, ...], tuple[str, ...]]


def pronunciations(text: str) -> dict[int, tuple[str, ...]]:
    """The phones of each heteronym of a spoken-form text, by the number of the word."""
    known = heteronyms()
    if known.keys().isdisjoint(WORD.findall(text.lower())):
        return {}
    words = words_of(text)
    return {
        number: known[word.key].phones[score(words, number) > 0]
        for number, word in enumerate(words)
        if word.key in known and not word.letters.isupper()  # capitals are read letter by letter
    }


@cache
def heteronyms() -> dict[str, Heteronym]:
    """All that are listed, in small letters."""
    file = ConfigParser(delimiters="=", comment_prefixes="#", interpolation=None)
    file.read_string(READINGS_FILE.read_text(encoding="utf-8"))
    known: dict[str, Heteronym] = {}
    for group in file.sections():
        for word, line in file[group].items():
            (first, *one), (second, *other) = (part.split() for part in line.split("/"))
            known[word] = Heteronym(group, (first, second), (tuple(one), tuple(other)))
    for word, base in list(known.items()):
        form = word + ("es" if word.endswith(("s", "ch")) else "s")
        if base.group == _VERBS and form not in known:
            plural = 0 if base.readings[0] == "noun" else 1  # what is no noun has none
            readings = (base.readings[plural], base.readings[1])
            known[form] = Heteronym(_VERBS_IN_S, readings, (_with_s(base.phones[plural]), _with_s(base.phones[1])))
    return known


def _with_s(phones: tuple[str, ...]) -> tuple[str, ...]:
    last = phones[-1]
    return (*phones, *(("ih", "z") if last in _HISSING else ("s",) if last in _VOICELESS else ("z",)))


def score(words: Sequence[Word], number: int) -> float:
    """Above 0 where the second reading of the heteronym at that place is likelier: its log odds."""
    return float(_weights()[list(features(words, number))].sum())


@cache
def _weights() -> np.ndarray:
    import numpy as np  # not for a text without heteronyms

    with np.load(WEIGHTS_FILE, allow_pickle=False) as file:
        return np.asarray(file["weights"] * file["scale"], np.float32)


def features(words: Sequence[Word], number: int) -> Iterator[int]:
    """Where the weights of what stands around a word are: those of its group, and its own."""
    key, what = words[number].key, around(words, number)
    yield from features_of(heteronyms()[key].group, what)
    near = {f"near {word.key}" for word in words[max(0, number - _BAG) : number + _BAG + 1]}
    yield from features_of(f"={key}", [*what, *sorted(near)])


def features_of(whose: str, what: Sequence[str]) -> list[int]:
    """Where the weights that a word or a group gives to something are."""
    return [] if whose == _OTHER else [crc32(f"{whose} {feature}".encode()) % NUM_WEIGHTS for feature in what]


def around(words: Sequence[Word], number: int) -> list[str]:
    """What stands at each place around a word and which kinds of words stand there together."""
    at = {n: words[number + n] if 0 <= number + n < len(words) else _NO_WORD for n in range(-3, 4)}
    kinds = {n: _kind(word) for n, word in at.items()}
    # A mark between two words stands like a word of its own.
    before, after = (word.boundary.replace("|", "") for word in (at[-1], at[0]))
    left, right = f"{kinds[-1]}{before}", f"{after}{kinds[1]}"
    found = ["", f"capital {at[0].letters[0].isupper()} {number > 0}", f"mark {before} {after}"]
    for n in (-2, -1, 1, 2):
        found += [f"{n} {at[n].key}", f"{n} {at[n].key[-3:]}"]
    found += [f"kind {n} {kind}" for n, kind in kinds.items() if n]
    found += [f"before {left}", f"after {right}", f"both {left} {right}"]
    found += [f"two before {kinds[-2]} {left}", f"three before {kinds[-3]} {kinds[-2]} {left}"]
    found += [f"two after {right} {kinds[2]}", f"across {kinds[-2]} {left} {right}"]
    found += [f"-1 {at[-1].key} {right}", f"1 {left} {at[1].key}"]
    if at[0].written.endswith("-") or at[-1].written.endswith("-"):
        found.append("hyphen")
    return found


def _kind(word: Word) -> str:
    """The part of speech that a word's form suggests."""
    if word.key in _KINDS:
        return _KINDS[word.key]
    if word.key.endswith(("'s", "s'")):
        return "my"
    ending = next((ending for ending in _ENDINGS if word.key.endswith(ending) and len(word.key) > len(ending) + 2), "")
    return f"{'X' if word.letters[:1].isupper() else 'x'}{ending}" if word.letters else "edge"
