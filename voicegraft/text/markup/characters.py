"""Characters that no reader should see: terminal escapes, byte order marks, noncharacters, odd line ends."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from voicegraft.text.patterns import lazy_regex

_ESCAPE = lazy_regex(
    r"(?:\x1b\[|\x9b)[0-?]{0,100}[ -/]{0,10}[@-~]"  # colours and cursors
    r"|\x1b\][^\x07\x1b]{0,2000}(?:\x07|\x1b\\)"  # titles and links
    r"|\x1b[ -/]{1,10}[0-~]|\x1b[0-Z\\^-~]"
    r"|\r\n?"
)
_BEGINNING = re.compile("[\r\x1b\x9b]")
_ODD = re.compile("[\x0b\x0c\x85\u2028\u2029\ufeff\ufdd0-\ufdef\ufffe\uffff\U0001fffe-\U0010ffff]")
_LINE_ENDS = {"\x0b": "\n", "\x0c": "\n\n", "\x85": "\n", "\u2028": "\n", "\u2029": "\n\n", "\ufeff": ""}


def clean(pieces: Iterable[str], leave_out: Callable[[str], None]) -> Iterator[str]:
    """The text with one kind of line end. Noncharacters are left out by name: they may not be printed."""

    def mend(match: re.Match[str]) -> str:
        char = match.group()
        if char in _LINE_ENDS:
            return _LINE_ENDS[char]
        if char > "\uffff" and ord(char) & 0xFFFE != 0xFFFE:
            return char
        leave_out(f"U+{ord(char):04X}")
        return ""

    held = ""
    for piece in pieces:
        ready, held = _without_escapes(held + piece, is_last=False)
        yield _ODD.sub(mend, ready)
    yield _ODD.sub(mend, _without_escapes(held, is_last=True)[0])


def _without_escapes(text: str, is_last: bool) -> tuple[str, str]:
    """What is certain, and the beginning of an escape that may go on."""
    ready, place = "", 0
    if not _BEGINNING.search(text):
        return text, ""
    while match := _ESCAPE.search(text, place, partial=not is_last):
        ready += text[place : match.start()]
        if match.partial or (match.end() == len(text) and not is_last):
            return ready, text[match.start() :]
        ready += "\n" if match.group()[0] == "\r" else ""
        place = match.end()
    return ready + text[place:], ""
