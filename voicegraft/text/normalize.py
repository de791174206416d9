"""Written to spoken English: `It costs $5.20.` becomes `It costs five dollars twenty cents.`"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape

from voicegraft.text.characters import fold
from voicegraft.text.electronic import read_addresses
from voicegraft.text.grammar import Grammar
from voicegraft.text.rules import after_grammar, before_grammar, tidy
from voicegraft.text.split import iter_sentences

_WINDOW_CHARS = 400  # what the grammar reads at once; bounds the time on text without an end
_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=[ \t]*(?:[-*+]+|#+|\d{1,2}[.)])[ \t])")
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{1,6});")
_MARKUP = (
    (re.compile(r"</?[A-Za-z][^<>]{0,200}>"), " "),
    (re.compile(r"!?\[([^\[\]]{0,400})\]\((?:[^()\s]{1,400})\)"), r"\1"),  # Markdown links
    (re.compile(r"(?m)^[ \t]*(?:#{1,6}|[-*+>])[ \t]+"), ""),
    (re.compile(r"(?m)^[ \t]*(\d{1,2})[.)][ \t]+"), r"\1, "),
    (re.compile(r"(?m)^[ \t]*(?:```\w*|[-=*_]{3,})[ \t]*$"), ""),
    (re.compile(r"\*\*|__|(?<!\w)[*_](?=\w)|(?<=[\w.,!?])[*_](?!\w)"), ""),
)
_ENDING = re.compile(r"[.?!]['\")\]]*$")


@dataclass(frozen=True)
class Normalized:
    """Text ready to be spoken, and what had to be left out of it."""

    text: str
    skipped: tuple[str, ...]  # different runs of characters that no English voice can say, in order


class Normalizer:
    """Turns written English into words, keeping case and the marks . , ? ! ; :

    Text without digits needs no grammar and loads none; the first text with one loads it, once per process.
    Any text is accepted, spoken text comes back as it is, and time is linear in the length.
    """

    def normalize(self, text: str) -> str:
        """The spoken form; empty if nothing in the text can be said."""
        return self.analyse(text).text

    def analyse(self, text: str) -> Normalized:
        """The spoken form, and the emoji and foreign letters that it leaves out."""
        folded, skipped = fold(_ENTITY.sub(lambda entity: unescape(entity.group()), text))
        spoken = [line for paragraph in _PARAGRAPH.split(folded) if (line := _say_paragraph(paragraph))]
        return Normalized(" ".join([_close(line) for line in spoken[:-1]] + spoken[-1:]), skipped)


def _say_paragraph(paragraph: str) -> str:
    for pattern, plain in _MARKUP:
        paragraph = pattern.sub(plain, paragraph)
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


def _close(paragraph: str) -> str:
    """Ends it with a stop, if no other mark ends it."""
    return paragraph if paragraph.endswith((".", "?", "!")) else paragraph.rstrip(",;:") + "."


def _say(sentence: str) -> str:
    written = before_grammar(read_addresses(sentence))
    spoken = written
    if any(character.isdigit() for character in written):
        answer = Grammar.load().say(written.replace('"', " "))
        spoken = written if answer is None else after_grammar(written, answer)
    return tidy(spoken)
