"""Written to spoken English: `It costs $5.20.` becomes `It costs five dollars twenty cents.`"""

from __future__ import annotations

from dataclasses import dataclass

from voicegraft.text.english.characters import Skipped
from voicegraft.text.english.reader import read
from voicegraft.text.english.sentences import iter_sentences
from voicegraft.text.markup.annotations import read_annotations
from voicegraft.text.markup.reader import read_markup

_WINDOW_CHARS = 400  # of text without an end that are read at once


@dataclass(frozen=True)
class Normalized:
    """Text ready to be spoken, and what had to be left out of it."""

    text: str
    skipped: tuple[str, ...]  # different runs of characters that no English voice says; long ones end in …


class Normalizer:
    """The spoken form of a whole text, keeping case and the marks . , ? ! ; :

    Any text is accepted, spoken text comes back as it is, and time is linear in the length.
    """

    def normalize(self, text: str) -> str:
        """The spoken form; empty if nothing in the text can be said."""
        return self.analyse(text).text

    def analyse(self, text: str) -> Normalized:
        """The spoken form, and the emoji, foreign letters and blobs that it leaves out."""
        skipped = Skipped()
        lines = []
        for paragraph in "".join(read_markup([text], skipped.add)).split("\n\n"):
            readings = []
            for sentence in iter_sentences([paragraph], _WINDOW_CHARS):
                written, annotations = read_annotations(sentence)
                readings.append(read(written, skipped.add, annotations).text)
            if line := " ".join(filter(None, readings)):
                lines.append(line)
        return Normalized(" ".join([_close(line) for line in lines[:-1]] + lines[-1:]), skipped.runs)


def _close(paragraph: str) -> str:
    """Ends it with a stop, if no other mark ends it."""
    return paragraph if paragraph.endswith((".", "?", "!")) else paragraph.rstrip(",;:") + "."
