"""Written to spoken English: `It costs $5.20.` becomes `It costs five dollars twenty cents.`"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape

from voicegraft.text.english.capitals import read_capitals
from voicegraft.text.english.characters import Skipped, fold
from voicegraft.text.english.electronic import read_addresses
from voicegraft.text.english.grammar import Grammar
from voicegraft.text.english.letters import name_letters, read_names
from voicegraft.text.english.noise import drop_noise
from voicegraft.text.english.rules import after_grammar, before_grammar, tidy
from voicegraft.text.english.sentences import iter_sentences

_WINDOW_CHARS = 400  # what the grammar reads at once; bounds the time on text without an end
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
_ENDING = re.compile(r"[.?!]['\")\]]*$")


@dataclass(frozen=True)
class Normalized:
    """Text ready to be spoken, and what had to be left out of it."""

    text: str
    skipped: tuple[str, ...]  # different runs of characters that no English voice says; long ones end in …


class Normalizer:
    """Turns written English into words, keeping case and the marks . , ? ! ; :

    Text without digits needs no grammar and loads none; the first text with one loads it, once per process.
    Any text is accepted, spoken text comes back as it is, and time is linear in the length.
    """

    def normalize(self, text: str) -> str:
        """The spoken form; empty if nothing in the text can be said."""
        return self.analyse(text).text

    def analyse(self, text: str) -> Normalized:
        """The spoken form, and the emoji, foreign letters and blobs that it leaves out."""
        skipped = Skipped()
        folded = fold(_ENTITY.sub(lambda entity: unescape(entity.group()), text), skipped.add)
        folded = drop_noise(folded, skipped.add)
        folded = _HEADING.sub(r"\1\n", folded)
        spoken = [line for paragraph in _PARAGRAPH.split(folded) if (line := _say_paragraph(paragraph))]
        return Normalized(" ".join([_close(line) for line in spoken[:-1]] + spoken[-1:]), skipped.runs)


def _say_paragraph(paragraph: str) -> str:
    if _ROW.fullmatch(paragraph.strip()):
        paragraph = _read_row(paragraph)
    for pattern, text in _MARKUP:
        paragraph = pattern.sub(text, paragraph)
    sentences = list(iter_sentences([paragraph], _WINDOW_CHARS))
    line = []
    for index, sentence in enumerate(sentences):
        spoken = _say(sentence)
        # An abbreviation takes the stop of its sentence along: "at 5 p.m." The fragment "5 p.m." has none.
        is_sentence = index + 1 < len(sentences) or len(sentence.split()) > 3
        if spoken and _ENDING.search(sentence) and is_sentence:
            spoken = _close(spoken)
        if spoken and sentence[0].isupper():
            spoken = spoken[0].upper() + spoken[1:]
        line.append(spoken)
    return " ".join(filter(None, line))


def _read_row(row: str) -> str:
    """The cells of a row of a Markdown table; nothing of the line under its head."""
    cells = [cell.strip() for cell in row.strip().strip("|").split("|")]
    return "" if _RULE.fullmatch(row.strip()) else ", ".join(filter(None, cells))


def _close(paragraph: str) -> str:
    """Ends it with a stop, if no other mark ends it."""
    return paragraph if paragraph.endswith((".", "?", "!")) else paragraph.rstrip(",;:") + "."


def _say(sentence: str) -> str:
    written = before_grammar(read_addresses(read_capitals(read_names(sentence))))
    spoken = written
    if any(character.isdigit() for character in written):
        answer = Grammar.load().say(written.replace('"', " "))
        spoken = written if answer is None else after_grammar(written, answer)
    return name_letters(tidy(spoken))
