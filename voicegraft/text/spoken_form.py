"""What a text front end makes of a written sentence."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

WIDE = 3  # letters that a Chinese, Japanese or Korean one counts as, by the time it takes


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


def is_wide(char: str) -> bool:
    """Whether a character is as wide as a Chinese one, which says a syllable or a word (East Asian Width)."""
    return unicodedata.east_asian_width(char) in ("W", "F")


def num_letters(text: str, wide: int = 1) -> int:
    """Letters of any script; a digit counts as four, the mean length of zero, one ... nine.

    Args:
        wide: what a wide letter counts as.
    """
    return sum((wide if is_wide(char) else 1) if char.isalpha() else 4 * char.isdigit() for char in text)
