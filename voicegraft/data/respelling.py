"""Fewer kinds of tokens to hear: those that are rare in a corpus are spelt with frequent ones and single letters.

A recogniser that learns from hours, not years, of speech never hears most tokens of a text LLM. Spelt so, every word can be
said. Which tokens stay is found as for a unigram vocabulary (Kudo 2018, arXiv 1804.10959): begin with many, spell the rest in
the fewest pieces, drop what is seldom used, until nothing changes.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from transformers import PreTrainedTokenizerBase

_SHORT = 4  # letters of what may serve as a piece without ever being a token of the corpus


@dataclass(frozen=True)
class Respelling:
    """Pieces, as tokens of the LLM, and the spelling in them of every other token that can be spelt."""

    pieces: tuple[int, ...]
    spelt: dict[int, tuple[int, ...]]
    written: dict[int, str]  # every token

    def __call__(self, tokens: Sequence[int]) -> list[int]:
        """Tokens -> pieces; a token that cannot be spelt stays."""
        return [piece for token in tokens for piece in self.spelt.get(token, (token,))]

    def varied(self, tokens: Sequence[int], share: float, random: np.random.Generator) -> list[int]:
        """The same, but a share of the tokens is cut at random places: subword regularisation (arXiv 1804.10959)."""
        cut = [self._cut(token, random) if random.random() < share else None for token in tokens]
        return [piece for token, drawn in zip(tokens, cut, strict=True) for piece in drawn or self([token])]

    def _cut(self, token: int, random: np.random.Generator) -> list[int] | None:
        """Pieces that spell a token, each drawn from those that its rest begins with; None: it cannot be spelt."""
        rest, found = self.written[token], []
        while rest:
            sizes = [size for size in range(1, len(rest) + 1) if rest[:size] in self._numbers]
            if not sizes:
                return None
            size = int(random.choice(sizes))
            found.append(self._numbers[rest[:size]])
            rest = rest[size:]
        return found

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {self.written[piece]: piece for piece in self.pieces}


def respelling(tokenizer: PreTrainedTokenizerBase, corpus: Sequence[Sequence[int]], least: int) -> Respelling:
    """The spelling in which every piece but single letters occurs ``least`` times in the corpus.

    Args:
        corpus: token ids of its texts.
        least: 1 keeps all tokens that the corpus has.
    """
    seen = Counter(token for text in corpus for token in text)
    ids = {token: i for token, i in tokenizer.get_vocab().items() if i not in tokenizer.all_special_ids}
    written = {i: token for token, i in ids.items() if i in seen}
    letters = {letter for token in written.values() for letter in token} | set(string.ascii_letters + string.digits)
    single = {letter for letter in letters if letter in ids}
    count = {written[i]: n for i, n in seen.items()}
    parts = {w[a:b] for w, n in count.items() if n < least for a in range(len(w)) for b in range(a + 2, a + 1 + _SHORT)}
    pieces = single | {w for w, n in count.items() if n >= least} | (parts & ids.keys())
    spelt = {word: _fewest(word, pieces) for word in count}
    while True:
        used = Counter({piece: 0 for piece in pieces})
        for word, spelling in spelt.items():
            used.update({piece: count[word] * spelling.count(piece) for piece in set(spelling)})
        rare = {piece for piece in pieces - single if used[piece] < least}
        if not rare:
            break
        pieces -= rare
        spelt |= {word: _fewest(word, pieces) for word, spelling in spelt.items() if rare.intersection(spelling)}
    spelt = {word: _fewest(word, pieces) for word in ids}
    changed = {ids[word]: tuple(ids[p] for p in spelling) for word, spelling in spelt.items() if spelling != [word]}
    return Respelling(tuple(sorted(ids[piece] for piece in pieces)), changed, {i: word for word, i in ids.items()})


def _fewest(word: str, pieces: set[str]) -> list[str]:
    """The word in the fewest pieces, the longest first where several ways are as short; itself where it cannot be spelt."""
    best: list[list[str] | None] = [[]]  # of the last letters, from the end
    for begin in range(len(word) - 1, -1, -1):
        ways = [
            [word[begin:end], *rest]
            for end in range(len(word), begin, -1)
            if word[begin:end] in pieces and (rest := best[len(word) - end]) is not None
        ]
        best.append(min(ways, key=len) if ways else None)
    return best[-1] or [word]
