"""What a text front end makes of a written sentence."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

WIDE = 3  # letters that a Chinese, Japanese or Korean one counts as, by the time it takes


@dataclass(frozen=True)
class SpokenPart:
    """A piece of a sentence, short enough to be said at once."""

    text: str  # as it is said
    spans: tuple[
        tuple[int, int], ...
    ]  # for each word of the text, the (start, end) of what is written; neither goes back
    pronunciations: Mapping[int, tuple[str, ...]] = field(
        default_factory=dict
    )  # by word: its phones, where the sense tells
    pause_sec: float = 0.0  # of silence that follows, on top of what always does


@dataclass(frozen=True)
class SpokenForm:
    """A written sentence and what is said of it."""

    written: str  # as it stands in the text, on one line
    parts: tuple[SpokenPart, ...]  # what is said; none: there is nothing to say
    skipped: tuple[str, ...] = ()  # different runs of characters that are left out

    @property
    def text(self) -> str:
        """All that is said."""
        return " ".join(part.text for part in self.parts)


def is_wide(char: str) -> bool:
    """Whether a character is as wide as a Chinese one, which says a syllable or a word (East Asian Width)."""
    return unicodedata.east_asian_width(char) in ("W", "F")


def num_letters(text: str, wide: int = 1) -> int:
    """Letters of any script; a digit counts as four, the mean length of zero, one ... nine.

    Args:
        wide: what a wide letter counts as.
    """
    return sum((wide if is_wide(char) else 1) if char.isalpha() else 4 * char.isdigit() for char in text)
