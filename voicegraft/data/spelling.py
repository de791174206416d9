"""Which letters of a word make which of its phones: the alignment that teaches spelling, found by expectation-maximisation.

Every letter makes zero to three phones, in order ("fox": f -> f, o -> aa, x -> k s). How often a letter makes a group of
phones is estimated from a lexicon, starting from counts of everything that is possible (Viterbi training, as in the
many-to-many aligner of Jiampojamarn et al. 2007).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Literal

from voicegraft.data.windows import Window

Spells = Literal["all", "unknown"]  # words of a sentence: every one, or those that no lexicon has
Groups = tuple[tuple[str, ...], ...]  # phones of each letter

LETTERS = "abcdefghijklmnopqrstuvwxyz'"
MOST_PHONES = 3  # of a letter, in a word; a letter of an initialism may have more
_PRIOR = (-1.5, 0.0, -2.5, -6.0)  # log weight of making 0, 1, 2 or 3 phones before anything is known


class Speller:
    """Aligns letters and phones; trained on construction."""

    def __init__(self, lexicon: Iterable[tuple[str, tuple[str, ...]]], rounds: int = 4):
        pairs = [(word, phones) for word, phones in lexicon if word and len(phones) <= MOST_PHONES * len(word)]
        self._scores: dict[str, dict[tuple[str, ...], float]] = {}
        for _ in range(rounds):
            counts: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
            for word, phones in pairs:
                groups = self._align(word, phones)
                if groups is not None:
                    for letter, group in zip(word, groups, strict=True):
                        counts[letter][group] += 1
            self._scores = {
                letter: {group: math.log((n + 0.1) / (sum(groups.values()) + 10)) for group, n in groups.items()}
                for letter, groups in counts.items()
            }
        self.align = cache(self._align)

    def _score(self, letter: str, group: tuple[str, ...]) -> float:
        unseen = -8.0 + _PRIOR[len(group)]
        return self._scores[letter].get(group, unseen) if letter in self._scores else _PRIOR[len(group)]

    def _align(self, word: str, phones: tuple[str, ...]) -> Groups | None:
        """Phones of each letter of a lower-case word, or None when there are more phones than the letters can make."""
        num_phones = len(phones)
        best: list[dict[int, tuple[float, int]]] = [{0: (0.0, 0)}]  # phones used -> (score, phones of the last letter)
        for letter in word:
            reached: dict[int, tuple[float, int]] = {}
            for used, (score, _) in best[-1].items():
                for size in range(min(MOST_PHONES, num_phones - used) + 1):
                    total = score + self._score(letter, phones[used : used + size])
                    if used + size not in reached or total > reached[used + size][0]:
                        reached[used + size] = (total, size)
            best.append(reached)
        if num_phones not in best[-1]:
            return None
        groups = []
        used = num_phones
        for reached in reversed(best[1:]):
            size = reached[used][1]
            groups.append(phones[used - size : used])
            used -= size
        return tuple(reversed(groups))


NUM_LETTERS = 2 * len(LETTERS)  # capitals count: they tell an initialism
LETTER_WINDOW = Window(before=3, after=4, num_kinds=NUM_LETTERS)


def letter_windows(letters: str) -> list[tuple[int, ...]]:
    """For each letter of a word the rows of itself and its neighbours (see ``Window``)."""
    return LETTER_WINDOW.rows([LETTERS.index(c.lower()) + (len(LETTERS) if c.isupper() else 0) for c in letters])
