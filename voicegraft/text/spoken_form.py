"""What a text front end makes of a written sentence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SpokenForm:
    """A written sentence and what is said of it."""

    written: str  # as it stands in the text, on one line
    parts: tuple[str, ...]  # what is said, in pieces short enough to be said at once; none: there is nothing to say
    skipped: tuple[str, ...] = ()  # different runs of characters that are left out

    @property
    def text(self) -> str:
        """All that is said."""
        return " ".join(self.parts)
