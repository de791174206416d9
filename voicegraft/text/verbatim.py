"""The front end of any language: the text is said as it stands. The model has to know how numbers are read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import takewhile

from voicegraft.text.patterns import lazy
from voicegraft.text.spoken_form import WIDE, SpokenForm, SpokenPart, is_wide

MAX_WIDTH = 220  # of one sentence: letters, of which a wide one counts as WIDE
_CLOSERS = r"[\"'”’»›)\]}」』】）》〉]"
# A stop that needs no space after it, one that does, or an empty line; what follows must be there to be sure.
_END = lazy(
    rf"[。！？｡．]+{_CLOSERS}*\s*(?=[^\s。！？｡．\"'”’»›)\]}}」』】）》〉])"
    rf"|[.!?…।॥؟۔።։]+{_CLOSERS}*\s+(?=\S)"
    r"|\n[^\S\n]*\n\s*(?=\S)"
)
# After these a full stop ends nothing: an initial, or a number that may be an ordinal.
_OPEN = lazy(r"(?:^|\W)(?:[^\W\d_]|\d+)\.\s+$")
# Where a sentence without an end is cut, best first.
_CUTS = (lazy(r".*(?:[;:,—–](?=\s)|[、，；：،؛])", re.DOTALL), lazy(r".*\S(?=\s)", re.DOTALL))
_SPACE = lazy(r"\s*")
_JOINERS = "\u200c\u200d"  # format characters that change how letters are read
_CONTROLS = ("Cc", "Cf", "Cs", "Co", "Cn")


class VerbatimFrontend:
    def sentences(self, pieces: Iterable[str], hurry: bool = False) -> Iterator[SpokenForm]:
        for written in _split(pieces):
            left_out = [char for char in written if unicodedata.category(char) in _CONTROLS and char not in _JOINERS]
            text = "".join(char for char in written if char not in left_out)
            skipped = [f"U+{ord(char):04X}" for char in left_out]  # a terminal would obey the character itself
            if not any(map(str.isalnum, text)):
                skipped += [char for char in text if unicodedata.category(char).startswith("S")]
                text = ""
            part = SpokenPart(text, tuple(_word_spans(written, text)))
            yield SpokenForm(written, (part,) if text else (), tuple(dict.fromkeys(skipped)))


def _word_spans(written: str, text: str) -> Iterator[tuple[int, int]]:
    """Words are what stands between spaces."""
    end = 0
    for word in text.split():
        start = max(end, written.find(word, end))
        end = min(len(written), start + len(word))
        yield start, end


def _split(pieces: Iterable[str]) -> Iterator[str]:
    """Sentences on one line each; the same for pieces of any size."""
    buffer = ""
    for piece in pieces:
        buffer += piece
        start = _skip_space(buffer, 0)
        while (end := _next_end(buffer, start)) is not None:
            yield from _line(buffer[start:end])
            start = _skip_space(buffer, end)
        buffer = buffer[start:]
    yield from _line(buffer)


def _skip_space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    return found.end() if found else start


def _line(text: str) -> Iterator[str]:
    if words := text.split():
        yield " ".join(words)


def _next_end(text: str, start: int) -> int | None:
    """Where the sentence that begins at ``start`` ends; None while later text may still change the answer."""
    limit = start + sum(1 for _ in takewhile(lambda used: used <= MAX_WIDTH, _widths(text, start)))
    for match in _END.finditer(text, start, min(len(text), limit + 1)):
        if not text[start : match.start()].strip():
            continue  # nothing is there to end
        goes_on = text[match.end()].islower() or _OPEN.search(text[max(start, match.start() - 20) : match.end()])
        if "\n" in match.group().strip(" ") or not (match.group()[0] == "." and goes_on):
            return match.end()
    if limit == len(text):
        return None
    for cut in _CUTS:
        if (found := cut.match(text, start, limit)) and found.end() - start >= MAX_WIDTH // WIDE // 2:
            return found.end()
    while limit > start + 1 and unicodedata.combining(text[limit]):
        limit -= 1  # a mark stays with its letter
    return limit


def _widths(text: str, start: int) -> Iterator[int]:
    """Width of the text from ``start`` on, up to each character."""
    used = 0
    for place in range(start, len(text)):
        used += WIDE if is_wide(text[place]) else 1
        yield used
