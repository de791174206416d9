"""Planted faults: the real decoder, forced to do what decoders do wrong, to see whether the guard notices.

Each kind spoils a sentence at a place that is drawn, and goes on spoiling it until somebody takes it back. The doubles draw
their tokens from the real model, so what they say sounds like speech; only the order, the ending or the noise is forced.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from voicegraft.inference.sentence import SentenceTokens
from voicegraft.text.units import BOUNDARIES


class Planted(SentenceTokens):
    """A decoder that goes wrong from frame ``planted_at`` on, until it is rewound."""

    planted_at: int | None = None  # not known before it happens
    cured = False

    def __init__(self, *args: Any, draw: random.Random, **options: Any):
        super().__init__(*args, **options)
        self.draw = draw

    def rewind(self, num_frames: int, unit: int, temperature: float | None = None) -> None:
        super().rewind(num_frames, unit, temperature)
        self.cured = True

    def _starts(self) -> list[int]:
        """The unit with which each word begins, and the number of units."""
        return [1, *(n + 1 for n, unit in enumerate(self.units) if unit in BOUNDARIES)]

    def _plant(self) -> None:
        if self.planted_at is None:
            self.planted_at = self.num_said


class Loop(Planted):
    """Says two or more words again and again, and does not come out of it."""

    span: tuple[int, int] | None = None

    def unit_after(self, number: int) -> int:
        if self.span is None:
            starts = self._starts()
            last = self.draw.randrange(2, len(starts))
            self.span = starts[max(0, last - self.draw.randint(2, 4))], starts[last]
        if number + 1 == self.span[1] and not self.cured:
            self._plant()
            return self.span[0]
        return number + 1


class Skip(Planted):
    """Leaves out a clause: three words or more in the middle, or all that is left but the last word."""

    span: tuple[int, int] | None = None

    def unit_after(self, number: int) -> int:
        if self.span is None:
            starts = self._starts()
            first = self.draw.randrange(1, len(starts) - 4)
            self.span = starts[first], starts[min(len(starts) - 2, first + self.draw.randint(3, 8))]
        if number + 1 == self.span[0] and not self.cured:
            self._plant()
            return self.span[1]
        return number + 1


class NeverEnds(Planted):
    """Never emits the end: the last unit goes on for ever."""

    def unit_after(self, number: int) -> int:
        if number + 1 < len(self.units) or self.cured:
            return number + 1
        self._plant()
        return number


class NoiseAfter(Planted):
    """Emits random tokens after the end."""

    num_noise = 100  # frames

    def __iter__(self) -> Iterator[int]:
        yield from super().__iter__()
        if self.cured:
            return
        self._plant()
        for _ in range(self.num_noise):
            code = self.draw.randrange(self.lm.vocabulary.num_codes)
            self._tokens.append(self.lm.vocabulary.first_code + code)
            yield code


KINDS: dict[str, type[Planted]] = {
    "loop": Loop,
    "skipped clause": Skip,
    "never ends": NeverEnds,
    "noise after the end": NoiseAfter,
}
