"""Windows: each item of a sequence told together with its neighbours, as rows of one embedding table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    before: int  # neighbours told before the item
    after: int  # and after it
    num_kinds: int  # how many different items there are

    @property
    def width(self) -> int:
        """Positions: the item and its neighbours."""
        return self.before + 1 + self.after

    @property
    def num_rows(self) -> int:
        """Rows of the table: row 0 means none, and a kind has another row at every place."""
        return 1 + self.width * self.num_kinds

    @property
    def none(self) -> tuple[int, ...]:
        return (0,) * self.width

    def rows(self, kinds: Sequence[int]) -> list[tuple[int, ...]]:
        """For each item the rows ``[width]`` of its window; 0 beyond the ends."""
        padded = [None] * self.before + list(kinds) + [None] * self.after
        windows = (padded[i : i + self.width] for i in range(len(kinds)))
        return [
            tuple(0 if kind is None else 1 + place * self.num_kinds + kind for place, kind in enumerate(window))
            for window in windows
        ]
