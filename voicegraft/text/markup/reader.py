"""Reads markup as a person would read it aloud: what it looks like makes no sound, what it means stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from voicegraft.text.markup.characters import clean
from voicegraft.text.markup.document import DocumentReader
from voicegraft.text.markup.scanner import Scanner
from voicegraft.text.markup.spoken import Spoken
from voicegraft.text.markup.ssml import BEGINNING, SsmlReader

_PIECE_CHARS = 4096  # that are read at once: a token is searched in no more


def read_markup(pieces: Iterable[str], leave_out: Callable[[str], None]) -> Iterator[str]:
    """What is to be read of HTML, Markdown, SSML, subtitles or ordinary text.

    Paragraphs, list items, verses and rows of tables end with a blank line, after the pause that they ask for
    (see ``annotations``). The text is the same for pieces of any size, and no more is held back than a token
    that may be open: a tag, a link, the beginning of a line, a row of a table.

    Args:
        leave_out: told what has words and is not said: code, addresses, comments, scripts, elements of SSML that ask
            for another voice.
    """
    spoken = Spoken(leave_out)
    reader: Scanner | None = None
    beginning = ""
    for piece in clean(pieces, leave_out):
        if reader is None:
            beginning += piece
            found = BEGINNING.match(beginning, partial=True) if beginning.lstrip()[:1] in ("", "<") else None
            if found and found.partial:
                continue
            reader, piece = SsmlReader(spoken) if found else DocumentReader(spoken), beginning
        for place in range(0, len(piece), _PIECE_CHARS):
            if said := reader.read(piece[place : place + _PIECE_CHARS]):
                yield said
    if reader is None:
        reader = DocumentReader(spoken)
        yield reader.read(beginning)
    yield reader.read("\n", is_last=True)
