"""Reads one sentence: what it says, and which slice of what is written each word says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from voicegraft.text.english.characters import fold
from voicegraft.text.english.letters import name_letters
from voicegraft.text.english.noise import noise
from voicegraft.text.english.say_as import say_as
from voicegraft.text.english.scan import MARKS, scan
from voicegraft.text.english.tokens import Piece
from voicegraft.text.markup.annotations import Annotation
from voicegraft.text.units import WORD

_GLUE = "-"
_TIDY = (
    (re.compile(r"^[,;:.?!\s]+"), ""),
    (re.compile(r"(?<=[,;:.?!]),+"), ""),
    (re.compile(r"[,;:]+(?=[.?!;:])"), ""),
    (re.compile(r"([?!])[?!]+"), r"\1"),
    (re.compile(r"\.{4,}"), "..."),
)
_UNTIDY = re.compile(r"[,;:.?!]{2}|^[,;:.?!\s]")
_ENDING = re.compile(r"[.?!]['\")\]]*$")
_FEW_WORDS = 3  # a fragment of so many is no sentence: the stop of its abbreviation ends nothing


@dataclass(frozen=True)
class Reading:
    """What is said of a sentence, and for each word of it the slice of what is written."""

    text: str
    spans: tuple[tuple[int, int], ...]


def read(written: str, leave_out: Callable[[str], None], annotations: Sequence[Annotation] = ()) -> Reading:
    """One sentence as it is said.

    Args:
        leave_out: told what no English voice says: emoji, foreign letters, blobs.
        annotations: slices that markup wants read in a way of its own.
    """
    pieces = [*_pieces(written, leave_out, annotations)]
    spoken = name_letters(_tidy(_join(pieces)))
    if not any(map(str.isalpha, spoken)):
        return Reading("", ())
    spans = [
        (piece.start, piece.end)
        for piece in pieces
        for _ in ((0,) if piece.words.isalpha() else WORD.findall(piece.words))
    ]
    return Reading(_finish(written, spoken), tuple(spans))


def _pieces(written: str, leave_out: Callable[[str], None], annotations: Sequence[Annotation]) -> Iterator[Piece]:
    """Pieces whose places are those of what is written."""
    place = 0
    for annotation in annotations:
        yield from _stretch(written, place, annotation.start, leave_out)
        place = annotation.end
        said = say_as(annotation.kind, written[annotation.start : place])
        if said is None:
            yield from _stretch(written, annotation.start, place, leave_out)
        else:
            ordinary = _join([*_stretch(said, 0, len(said), leave_out)])
            yield Piece(_tidy(ordinary).strip(" ,.?!;:"), annotation.start, place)
    yield from _stretch(written, place, len(written), leave_out)


def _stretch(written: str, start: int, end: int, leave_out: Callable[[str], None]) -> Iterator[Piece]:
    folded = fold(written[start:end], leave_out)
    text = folded.text
    for begun, ended in noise(text):
        leave_out(text[begun:ended])
        text = text[:begun] + " " * (ended - begun) + text[ended:]
    is_same = start == 0 and isinstance(folded.places, range)
    for piece in scan(text):
        if is_same and text[piece.end - 1] not in ". " and piece.end > piece.start:
            yield piece
            continue
        last = piece.end
        while last > piece.start + 1 and text[last - 1] in ". ":
            last -= 1
        first, last = folded.span(piece.start, last) if last > piece.start else (0, 0)
        yield Piece(piece.words, start + first, start + last)


def _join(pieces: list[Piece]) -> str:
    """The words with single spaces, marks after the words they follow, hyphens between theirs."""
    parts: list[str] = []
    glued = True
    for piece in pieces:
        if piece.words == _GLUE or piece.words[:1] in MARKS:
            parts.append(piece.words)
        elif piece.words:
            parts.append(piece.words if glued else f" {piece.words}")
        glued = piece.words == _GLUE
    return "".join(parts)


def _tidy(spoken: str) -> str:
    """Marks that stand together become one."""
    for pattern, mark in _TIDY if _UNTIDY.search(spoken) else ():
        spoken = pattern.sub(mark, spoken)
    return spoken.strip()


def _finish(written: str, spoken: str) -> str:
    """An abbreviation takes the stop of its sentence along; brackets that close it leave a comma."""
    written = written.strip()
    if not written.endswith(","):
        spoken = spoken.rstrip(",")
    if _ENDING.search(written) and len(written.split()) > _FEW_WORDS and not spoken.endswith((".", "?", "!")):
        spoken = spoken.rstrip(",;:") + "."
    return spoken[0].upper() + spoken[1:] if written[:1].isupper() else spoken
