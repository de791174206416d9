"""Collects what is to be read, and says how long to pause between: the one place where pauses are chosen."""

from __future__ import annotations

import re
from collections.abc import Callable

from voicegraft.text.markup.annotations import pause

# Seconds of silence on top of what every sentence has, as audiobooks pause.
PARAGRAPH_SEC = 0.3
HEADING_SEC = 0.5
SECTION_SEC = 0.8  # a rule or three stars between scenes
MAX_SEC = 10.0  # in one place, however much is asked for
_BLANKS = re.compile(r"[ \t\n]{2,}|[\t\n]")
_TAIL_CHARS = 12
_MARKS = ",.;:!?…"
_SPACES = ("", " ", "\n", ", ")  # the later, the stronger


class Spoken:
    """The text so far. What stands between two words is known when the second comes; white space is put out with it."""

    def __init__(self, leave_out: Callable[[str], None]):
        self.leave_out = leave_out
        self.tail = ""  # the last characters of what has been said
        self._pieces: list[str] = []
        self._between = ""  # a space, a line feed or a comma
        self.is_ended = False  # nothing has been said since a sentence ended
        self._sec = self._asked_sec = 0.0

    def say(self, text: str) -> None:
        words = _BLANKS.sub(" ", text).strip(" ")
        if not words or words.isspace():
            self.space(" " if text else "")
            return
        if text[0] in " \t\n":
            self.space()
        sec = min(MAX_SEC, self._sec + self._asked_sec)
        between = (pause(sec) if sec else "") + "\n\n" if self.is_ended else self._between
        self._pieces += [between, words] if self.tail else [words]
        self.tail = (self.tail + self._between + words)[-_TAIL_CHARS:]
        self._between, self.is_ended, self._sec, self._asked_sec = "", False, 0.0, 0.0
        if text[-1] in " \t\n":
            self.space()

    def space(self, mark: str = " ") -> None:
        """White space, or a comma between cells; what is longer stays."""
        mark = " " if mark == ", " and self.tail[-1:] in _MARKS else mark
        self._between = max(self._between, mark, key=_SPACES.index)

    def end(self, sec: float = 0.0) -> None:
        """The sentence ends, whatever its last character is; the longest pause counts."""
        self.is_ended, self._sec = True, max(self._sec, sec)

    def wait(self, sec: float, tag: str) -> None:
        """A pause that is asked for; such pauses add up."""
        if not self.tail or self._asked_sec + sec > MAX_SEC:  # before the first word nobody listens yet
            self.leave_out(tag)
        self._asked_sec = min(MAX_SEC, self._asked_sec + sec)
        self.end()

    def take(self, is_last: bool = False) -> str:
        """What has been said since the last time."""
        text = "".join(self._pieces)
        self._pieces.clear()
        return text + (pause(self._asked_sec) if is_last and self.tail and self._asked_sec else "")
