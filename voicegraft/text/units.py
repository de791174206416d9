"""The units that speech is made of, and the words of a spoken-form text.

A *unit* is a phone of the CMU/flite set or a boundary mark. Every utterance is ``^`` (the silence before), then the
phones of each word followed by one boundary: ``|`` inside a phrase, or the punctuation that stands there (``, . ? !``).
A boundary lasts as long as the silence there: zero frames where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# fmt: off
PHONES = (
    "aa", "ae", "ah", "ao", "aw", "ax", "ay", "b", "ch", "d", "dh", "eh", "er", "ey", "f", "g", "hh", "ih", "iy", "jh",
    "k", "l", "m", "n", "ng", "ow", "oy", "p", "r", "s", "sh", "t", "th", "uh", "uw", "v", "w", "y", "z", "zh",
)
# fmt: on
START = "^"
BOUNDARIES = ("|", ",", ".", "?", "!")
UNITS = (*PHONES, START, *BOUNDARIES)
SILENCE = len(PHONES)  # class of every boundary unit
NUM_CLASSES = SILENCE + 1
UNIT_CLASS = {p: i for i, p in enumerate(PHONES)} | dict.fromkeys((START, *BOUNDARIES), SILENCE)

WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
_MARK_OF = {",": ",", ";": ",", ":": ",", "—": ",", "–": ",", ".": ".", "?": "?", "!": "!", "…": "."}
_WEIGHT = {"|": 0, ",": 1, ".": 2, "!": 3, "?": 4}


@dataclass(frozen=True)
class Word:
    """One word of a spoken-form text."""

    written: str  # as it stands in the text, with what follows up to the next word
    letters: str  # the word alone: letters and inner apostrophes, capitals kept
    boundary: str  # one of BOUNDARIES: the mark that follows it

    @property
    def key(self) -> str:
        """The word as the lexicon lists it."""
        return self.letters.lower()


def words_of(text: str) -> list[Word]:
    """The words of a spoken-form text with their boundaries; the last boundary is at least a full stop."""
    text = text.replace("’", "'")
    matches = list(WORD.finditer(text))
    words = []
    for match, following in zip(matches, [*matches[1:], None], strict=False):
        end = following.start() if following else len(text)
        between = text[match.end() : end]
        mark = "|"
        if between != " ":  # most words are followed by one, and this is asked for every word that is read
            marks = [_MARK_OF[c] for c in between.replace("--", "—") if c in _MARK_OF]
            mark = max(marks, key=_WEIGHT.__getitem__, default="|")
        if following is None and mark in "|,":
            mark = "."
        words.append(Word(text[match.start() : end].strip(), match.group(), mark))
    return words


def phones_by_word(units: Sequence[str]) -> list[tuple[str, ...]]:
    """``^``, then phones and a boundary per word -> the phones of each word."""
    words: list[tuple[str, ...]] = []
    phones: list[str] = []
    for unit in units[1:]:
        if unit in BOUNDARIES:
            words.append(tuple(phones))
            phones = []
        else:
            phones.append(unit)
    return words
