"""Written to spoken English: `It costs $5.20.` becomes `It costs five dollars twenty cents.`"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape

from voicegraft.text.english.characters import Skipped
from voicegraft.text.english.reader import read
from voicegraft.text.english.sentences import iter_sentences

_WINDOW_CHARS = 400  # of text without an end that are read at once
_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=[ \t]*(?:(?:[-*+]+|#+|\d{1,2}[.)])[ \t]|\|))")
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}\d{0,2}|#\d{1,6}|#x[0-9A-Fa-f]{1,5});")
_HEADING = re.compile(r"(?m)^([ \t]*#{1,6}[ \t].*)$")
_VALUE = r"""(?:"[^"<>]{0,200}"|'[^'<>]{0,200}'|[^\s"'<>]{1,200})"""
_ROW = re.compile(r"\|.*\|")
_RULE = re.compile(r"[|:\s-]+")
_MARKUP = (
    (re.compile(r"<!--.{0,400}?-->", re.DOTALL), " "),
    # A tag stands alone or has a value; what is glued to a word may be a comparison or a type.
    (
        re.compile(
            rf"</[A-Za-z][\w:-]{{0,40}}\s*>|<[A-Za-z][\w:-]{{0,40}}(?:\s+[\w:-]{{1,40}}={_VALUE}){{1,20}}\s*/?>"
        ),
        " ",
    ),
    (re.compile(r"(?<!\w)<[A-Za-z][\w:-]{0,40}\s*/?>|<(?:br|hr|wbr|p|b|i|u|em|strong|sub|sup|span)\s*/?>"), " "),
    (re.compile(r"!?\[([^\[\]]{0,400})\]\((?:[^()\s]{1,400})\)"), r"\1"),  # Markdown links
    (re.compile(r"(?m)^[ \t]*(?:#{1,6}|[-*+>])[ \t]+"), ""),
    (re.compile(r"(?m)^[ \t]*(\d{1,2})[.)][ \t]+"), r"\1, "),
    (re.compile(r"(?m)^[ \t]*[-=*_]{3,}[ \t]*$"), ""),
    (re.compile(r"(?:```|~~~)\w*(?=\s|$)"), " "),
    (re.compile(r"(?<=\d)\*\*(?=\d)|(?<=\b[a-z])\*\*(?=\d)"), "^"),
    (re.compile(r"\*\*|__|(?<!\w)[*_](?=\w)|(?<=[\w.,:;!?])[*_](?!\w)"), ""),
)


@dataclass(frozen=True)
class Normalized:
    """Text ready to be spoken, and what had to be left out of it."""

    text: str
    skipped: tuple[str, ...]  # different runs of characters that no English voice says; long ones end in …


class Normalizer:
    """Turns written English into words, keeping case and the marks . , ? ! ; :

    Any text is accepted, spoken text comes back as it is, and time is linear in the length.
    """

    def normalize(self, text: str) -> str:
        """The spoken form; empty if nothing in the text can be said."""
        return self.analyse(text).text

    def analyse(self, text: str) -> Normalized:
        """The spoken form, and the emoji, foreign letters and blobs that it leaves out."""
        skipped = Skipped()
        lines = []
        for paragraph in _PARAGRAPH.split(_HEADING.sub(r"\1\n", text)):
            readings = (
                read(sentence, skipped).text for sentence in iter_sentences([without_markup(paragraph)], _WINDOW_CHARS)
            )
            if line := " ".join(filter(None, readings)):
                lines.append(line)
        return Normalized(" ".join([_close(line) for line in lines[:-1]] + lines[-1:]), skipped.runs)


def without_markup(paragraph: str) -> str:
    paragraph = _ENTITY.sub(lambda entity: unescape(entity.group()), paragraph)
    if _ROW.fullmatch(paragraph.strip()):
        paragraph = _read_row(paragraph)
    for pattern, text in _MARKUP:
        paragraph = pattern.sub(text, paragraph)
    return paragraph


def _read_row(row: str) -> str:
    """The cells of a row of a Markdown table; nothing of the line under its head."""
    cells = [cell.strip() for cell in row.strip().strip("|").split("|")]
    return "" if _RULE.fullmatch(row.strip()) else ", ".join(filter(None, cells))


def _close(paragraph: str) -> str:
    """Ends it with a stop, if no other mark ends it."""
    return paragraph if paragraph.endswith((".", "?", "!")) else paragraph.rstrip(",;:") + "."
