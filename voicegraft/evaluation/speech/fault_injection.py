"""Fault injection: the real model, forced to do what decoders do wrong, to see whether the guard notices.

Each kind spoils a sentence at a place that is drawn, and goes on spoiling it until somebody takes it back. These machines draw
their tokens from the real model, so what they say sounds like speech; only the order, the ending or the noise is forced.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from voicegraft.inference.sentence import Asking, GuidedMachine
from voicegraft.text.units import BOUNDARIES


class FaultyMachine(GuidedMachine):
    """A machine that goes wrong from frame ``fault_at`` on, until it is rewound."""

    fault_at: int | None = None  # not known before it happens
    cured = False

    def __init__(self, *args: Any, draw: random.Random, **options: Any):
        self.draw = draw
        super().__init__(*args, **options)

    def rewind(self, num_frames: int, unit: int, temperature: float | None = None) -> None:
        self.cured = True
        super().rewind(num_frames, unit, temperature)

    def unit_after(self, number: int) -> int:
        """Which unit is said next."""
        return number + 1

    def _order(self, unit: int) -> Iterator[int]:
        while unit < len(self.units):
            yield unit
            unit = self.unit_after(unit)

    def _starts(self) -> list[int]:
        """The unit with which each word begins, and the number of units."""
        return [1, *(n + 1 for n, unit in enumerate(self.units) if unit in BOUNDARIES)]

    def _go_wrong(self) -> None:
        if self.fault_at is None:
            self.fault_at = len(self.codes)


class Loop(FaultyMachine):
    """Says two or more words again and again, and does not come out of it."""

    span: tuple[int, int] | None = None

    def unit_after(self, number: int) -> int:
        if self.span is None:
            starts = self._starts()
            last = self.draw.randrange(2, len(starts))
            self.span = starts[max(0, last - self.draw.randint(2, 4))], starts[last]
        if number + 1 == self.span[1] and not self.cured:
            self._go_wrong()
            return self.span[0]
        return number + 1


class Skip(FaultyMachine):
    """Leaves out a clause: three words or more in the middle, or all that is left but the last word."""

    span: tuple[int, int] | None = None

    def unit_after(self, number: int) -> int:
        if self.span is None:
            starts = self._starts()
            first = self.draw.randrange(1, len(starts) - 4)
            self.span = starts[first], starts[min(len(starts) - 2, first + self.draw.randint(3, 8))]
        if number + 1 == self.span[0] and not self.cured:
            self._go_wrong()
            return self.span[1]
        return number + 1


class NeverEnds(FaultyMachine):
    """Never emits the end: the last unit goes on for ever."""

    def unit_after(self, number: int) -> int:
        if number + 1 < len(self.units) or self.cured:
            return number + 1
        self._go_wrong()
        return number


class NoiseAfter(FaultyMachine):
    """Emits random tokens after the end."""

    num_noise = 100  # frames

    def _say(self, first: int, crop: int = 0) -> Asking:
        yield from super()._say(first, crop)
        if not self.cured:
            self._go_wrong()
            self.codes += [self.draw.randrange(self.layout.vocabulary.num_codes) for _ in range(self.num_noise)]


KINDS: dict[str, type[FaultyMachine]] = {
    "loop": Loop,
    "skipped clause": Skip,
    "never ends": NeverEnds,
    "noise after the end": NoiseAfter,
}
