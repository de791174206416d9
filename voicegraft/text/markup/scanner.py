"""Reads a text that arrives in pieces of any size, token by token, with the same result for any pieces."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import TYPE_CHECKING

from voicegraft.text.markup.elements import ENTITY
from voicegraft.text.markup.spoken import Spoken

if TYPE_CHECKING:
    import regex

_RAW_CHARS = 2000  # of text without an end that is left out are reported at once


class Incomplete(Exception):
    """What stands at the end of the text so far may be the beginning of a token."""


class Scanner:
    """Steps through the text; a step that meets the end too early changes nothing and is tried again with more text."""

    def __init__(self, spoken: Spoken):
        self.spoken = spoken
        self.text = ""  # what has been read is cut off when a piece is done
        self.place = 0
        self.base = 0  # characters that have been cut off
        self.is_last = False
        self._before = ""  # the last character that has been cut off
        self._raw_end: re.Pattern[str] | None = None  # up to here the text is left out
        self._raw = ""
        self.steps: dict[str, Callable[[], None]] = {"&": self._entity}  # by first character; others are said
        self._prose = re.compile("")

    def read(self, piece: str, is_last: bool = False) -> str:
        """What is said of the next piece."""
        if not self._prose.pattern:
            self._prose = re.compile(f"[^{re.escape(''.join(self.steps))}]+")
        self.text += piece
        self.is_last = is_last
        try:
            while self.place < len(self.text):
                if self._raw_end is not None:
                    self._leave_out()
                else:
                    self.step()
        except Incomplete:
            pass
        self.base += self.place
        self._before = self.before
        self.text, self.place = self.text[self.place :], 0
        return self.spoken.take(is_last)

    @property
    def before(self) -> str:
        """The character before this place."""
        return self.text[self.place - 1] if self.place else self._before

    @property
    def after_word(self) -> bool:
        return self.before.isalnum()

    def step(self) -> None:
        step = self.steps.get(self.text[self.place])
        if step is not None:
            step()
        elif match := self._prose.match(self.text, self.place):
            self.spoken.say(match.group())
            self.place = match.end()

    def match(self, pattern: regex.Pattern[str]) -> regex.Match[str] | None:
        """The token of that kind that stands here.

        Raises:
            Incomplete: later text decides.
        """
        found = pattern.match(self.text, self.place, partial=not self.is_last)
        if found and not self.is_last and (found.partial or found.end() == len(self.text)):
            raise Incomplete
        return found

    def skip(self, pattern: regex.Pattern[str]) -> bool:
        """Whether such a token stood here; it makes no sound."""
        if found := self.match(pattern):
            self.place = found.end()
        return found is not None

    def say(self, num_chars: int = 1) -> None:
        """Says characters as they stand."""
        self.spoken.say(self.text[self.place : self.place + num_chars])
        self.place += num_chars

    def leave_out_until(self, end: re.Pattern[str]) -> None:
        """Leaves out and reports what follows, up to and with what `end` finds (at most 100 characters)."""
        self._raw_end = end

    def _leave_out(self) -> None:
        assert self._raw_end is not None
        found = self._raw_end.search(self.text, self.place)
        if found and found.end() == len(self.text) and not self.is_last:
            raise Incomplete
        stop = found.start() if found else len(self.text) if self.is_last else max(self.place, len(self.text) - 100)
        self._raw += self.text[self.place : stop]
        self.place = stop
        while len(self._raw) > _RAW_CHARS or (self._raw and (found or self.is_last)):
            if report := " ".join(self._raw[:_RAW_CHARS].split()):
                self.spoken.leave_out(report)
            self._raw = self._raw[_RAW_CHARS:]
        if found:
            self.place, self._raw_end = found.end(), None
        elif not self.is_last:
            raise Incomplete

    def _entity(self) -> None:
        found = self.match(ENTITY)
        if found is None or unescape(found.group()) == found.group():
            return self.say()
        self.spoken.say(unescape(found.group()))
        self.place = found.end()
