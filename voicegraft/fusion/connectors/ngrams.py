"""What is likely to be said: n-grams of pieces, with which a connector reads better than by sound alone.

Interpolated counts (Witten and Bell 1991) in back-off form (Katz 1987): an n-gram has its log-probability, a context what it
leaves to the shorter one. Reading is CTC prefix beam search with shallow fusion (Hannun et al. 2014, arXiv 1408.2873).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

BLANK = 0  # of the scores; piece number i is i + 1
_CERTAIN = -0.002  # log-probability of blank from which a slot says nothing
_HOPELESS = -9.0  # log-probability under which a piece is not tried
_NEVER = -1e9


@dataclass(frozen=True)
class Fusion:
    """How language is weighed against sound."""

    weight: float = 0.3  # of the language's log-probability
    bonus: float = 2.0  # for each piece: language alone would rather say little
    beam: int = 8  # readings that are kept
    pieces: int = 12  # the likeliest ones that are tried in a slot


class NGrams(nn.Module):
    """Log-probabilities of a piece behind others; pieces are numbers from 1."""

    def __init__(self, num_pieces: int, sizes: Sequence[int]):
        """
        Args:
            sizes: numbers of n-grams of each order, from 1.
        """
        super().__init__()
        self.sizes, self.order = tuple(sizes), len(sizes)
        self.edge = num_pieces + 1  # of a text, on either side
        for order, size in enumerate(sizes, 1):
            self.register_buffer(f"keys{order}", torch.zeros(size, dtype=torch.int64))  # sorted
            self.register_buffer(
                f"scores{order}", torch.zeros(size, 2)
            )  # of the last piece; of leaving it, as a context

    @staticmethod
    def counted(texts: Iterable[Sequence[int]], num_pieces: int, order: int, least: int = 2) -> NGrams:
        """Of texts in pieces.

        Args:
            least: times that an n-gram of three pieces and more must occur to be kept.
        """
        edge = num_pieces + 1
        counts: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order)]
        counts[0].update({(piece,): 0 for piece in range(1, edge + 1)})
        for text in texts:
            said = (edge, *text, edge)
            for size in range(order):
                counts[size].update(said[i : i + size + 1] for i in range(len(said) - size))
        chance: dict[tuple[int, ...], float] = {}
        leaves: dict[tuple[int, ...], float] = {}  # a context's share for the shorter one
        for size, of in enumerate(counts):
            mass, kept = Counter[tuple[int, ...]](), Counter[tuple[int, ...]]()
            grams = {gram: count for gram, count in of.items() if size < 2 or count >= least}
            for gram, count in of.items():
                mass[gram[:-1]] += count + 1 if count else 0
                kept[gram[:-1]] += count if gram in grams else 0
            leaves |= {context: (mass[context] - kept[context]) / mass[context] for context in kept}
            for gram, count in grams.items():
                shorter = chance[gram[1:]] if size else 1 / edge
                chance[gram] = count / mass[gram[:-1]] + leaves[gram[:-1]] * shorter
        made = NGrams(num_pieces, [sum(len(gram) == size + 1 for gram in chance) for size in range(order)])
        for size in range(1, order + 1):
            rows = sorted((made._key(gram), gram) for gram in chance if len(gram) == size)
            made.get_buffer(f"keys{size}").copy_(torch.tensor([key for key, _ in rows]))
            logs = np.log([(chance[gram], leaves.get(gram, 1.0)) for _, gram in rows])
            made.get_buffer(f"scores{size}").copy_(torch.from_numpy(logs))
        return made

    def _key(self, gram: Sequence[int]) -> int:
        key = 0
        for piece in gram:
            key = key * (self.edge + 1) + piece
        return key

    def reader(self, fusion: Fusion) -> Reader:
        return Reader(self, fusion)


class Reader:
    """Reads slots with n-grams beside them."""

    def __init__(self, ngrams: NGrams, fusion: Fusion):
        self._ngrams, self._fusion = ngrams, fusion
        self._tables = [
            (ngrams.get_buffer(f"keys{n}").cpu().numpy(), ngrams.get_buffer(f"scores{n}").float().cpu().numpy())
            for n in range(1, ngrams.order + 1)
        ]

    def log_probs(self, before: Sequence[int], pieces: np.ndarray) -> np.ndarray:
        """Of each of some pieces ``[N]`` behind others, from the text's beginning."""
        edge = self._ngrams.edge
        if not len(pieces):
            return np.zeros(0)
        context = (edge, *before)[max(0, len(before) + 2 - self._ngrams.order) :]
        found, left = np.full(len(pieces), np.nan), 0.0
        for begin in range(len(context) + 1):
            key = self._ngrams._key(context[begin:])
            scores, there = self._look(len(context) - begin, key * (edge + 1) + pieces)
            new = there & np.isnan(found)
            found[new] = left + scores[new, 0]
            if begin < len(context):
                score, known = self._look(len(context) - begin - 1, np.array([key]))
                left += score[0, 1] if known[0] else 0.0
        return found

    def _look(self, table: int, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores ``[N, 2]`` of keys, and whether they are there ``[N]``."""
        keys, scores = self._tables[table]
        places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return scores[places], keys[places] == wanted

    def read(self, scores: np.ndarray) -> list[int]:
        """Log-probabilities ``[S, 1 + P]``, of blank first -> the pieces that were said, likeliest in sound and language."""
        fusion = self._fusion
        # Probability of all ways to it that end in blank, and in its last piece.
        beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, _NEVER)}
        language: dict[tuple[int, ...], float] = {(): 0.0}
        for slot in scores:
            tried = np.flatnonzero(slot[1:] > _HOPELESS) + 1 if slot[BLANK] < _CERTAIN else np.zeros(0, np.int64)
            tried = tried[np.argsort(slot[tried])[-fusion.pieces :]]
            grown: dict[tuple[int, ...], tuple[float, float]] = {}
            blank, chances = float(slot[BLANK]), slot[tried].tolist()
            known: dict[tuple[int, ...], list[float]] = {}

            def add(said: tuple[int, ...], in_blank: float, in_piece: float, grown=grown) -> None:  # type: ignore[no-untyped-def]
                old = grown.get(said)
                grown[said] = (_sum(old[0], in_blank), _sum(old[1], in_piece)) if old else (in_blank, in_piece)

            for said, (in_blank, in_piece) in beams.items():
                both = _sum(in_blank, in_piece)
                add(said, both + blank, in_piece + float(slot[said[-1]]) if said else _NEVER)
                context = said[max(0, len(said) + 1 - self._ngrams.order) :]
                if context not in known:
                    known[context] = (fusion.weight * self.log_probs(said, tried) + fusion.bonus).tolist()
                for new, chance, gain in zip(tried.tolist(), chances, known[context], strict=True):
                    longer = (*said, new)
                    language.setdefault(longer, language[said] + gain)
                    add(longer, _NEVER, (in_blank if said and new == said[-1] else both) + chance)
            ranked = sorted(grown, key=lambda said: -_sum(*grown[said]) - language[said])
            beams = {said: grown[said] for said in ranked[: fusion.beam]}
        end = np.array([self._ngrams.edge])

        def whole(said: tuple[int, ...]) -> float:
            last = fusion.weight * float(self.log_probs(said, end)[0])
            return _sum(*beams[said]) + language[said] + last

        best: tuple[int, ...] = max(beams, key=whole)
        return list(best)


def _sum(a: float, b: float) -> float:
    """Of two probabilities, in logarithms."""
    high, low = (a, b) if a > b else (b, a)
    return high + math.log1p(math.exp(low - high))
