"""What a rule of the reader is: a pattern at the place where a token begins, and how the token is said in its context."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import NamedTuple

_NEAR = 60  # characters before and after a token that may decide how it is said
Match = re.Match[str]


class Piece(NamedTuple):
    """Words, and marks among them, that say a slice of the text."""

    words: str
    start: int
    end: int


Said = str | list[Piece] | None  # what the whole match says, or its pieces in order; None: it is something else


class Rule:
    """What may begin at a place, and how it is said; the pattern is compiled when it is first needed."""

    def __init__(self, pattern: str, say: Callable[[Match], Said], flags: int):
        self.say = say
        self._pattern, self._flags = pattern, flags

    @cached_property
    def match(self) -> Callable[[str, int], Match | None]:
        return re.compile(self._pattern, self._flags | re.VERBOSE).match


def rule(pattern: str, say: Callable[[Match], Said], flags: int = 0) -> Rule:
    """A rule whose pattern is verbose: spaces in it are escaped or in brackets."""
    return Rule(pattern, say, flags)


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
