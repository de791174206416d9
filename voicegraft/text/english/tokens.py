"""What a rule of the reader is: a pattern at the place where a token begins, and how the token is said in its context."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_NEAR = 60  # characters before and after a token that may decide how it is said
Match = re.Match[str]


@dataclass(frozen=True)
class Piece:
    """Words, and marks among them, that say a slice of the text."""

    words: str
    start: int
    end: int


Said = str | list[Piece] | None  # what the whole match says, or its pieces in order; None: it is something else
Rule = tuple[re.Pattern[str], Callable[[Match], Said]]


def rule(pattern: str, say: Callable[[Match], Said], flags: int = 0) -> Rule:
    return re.compile(pattern, flags | re.VERBOSE), say


def one_of(words: Iterable[str]) -> str:
    """A pattern of fixed words, the longest first; for verbose patterns."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def before(match: Match) -> str:
    return match.string[max(0, match.start() - _NEAR) : match.start()]


def after(match: Match) -> str:
    return match.string[match.end() : match.end() + _NEAR]


def pieces(match: Match, *parts: tuple[int | str, str]) -> list[Piece]:
    """Pieces of groups that say something each."""
    return [Piece(words, match.start(group), match.end(group)) for group, words in parts if words]
