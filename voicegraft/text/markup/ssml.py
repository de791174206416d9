"""SSML: pauses, and how words are said. What it says about voices is reported: a voice has one way to speak."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

from voicegraft.text.markup.annotations import say_as
from voicegraft.text.markup.elements import CDATA, COMMENT, SILENT, TAG, attribute
from voicegraft.text.markup.scanner import Scanner
from voicegraft.text.markup.spoken import PARAGRAPH_SEC, Spoken
from voicegraft.text.patterns import lazy_regex

if TYPE_CHECKING:
    import regex

# How a document begins that is read as SSML.
BEGINNING = lazy_regex(
    r"\s{0,1000}(?:<\?xml[^<>]{0,500}\?>\s{0,1000})?(?:<!--[^<>]{0,500}-->\s{0,1000})?<speak(?=[\s>/])"
)
_STRENGTHS = {"none": 0.0, "x-weak": 0.1, "weak": 0.25, "medium": 0.5, "strong": 0.75, "x-strong": 1.0}
_TIME = re.compile(r"\+?(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})(ms|s)")
_CONTENT = lazy_regex(r"(?P<text>[^<>]{1,400})</(?P<name>say-as|sub)\s*>")
_KINDS = ("characters", "digits", "cardinal", "ordinal", "fraction", "date", "time", "telephone", "currency", "unit")
_SAME = {"spell-out": "characters", "verbatim": "characters", "number": "cardinal"}
_COMMENT_END = re.compile("-->")


class SsmlReader(Scanner):
    def __init__(self, spoken: Spoken):
        super().__init__(spoken)
        self.steps |= {"<": self._tag, "\n": self._newline}
        self._told: set[str] = set()

    def _newline(self) -> None:
        self.spoken.space("\n")
        self.place += 1

    def _tag(self) -> None:
        if self.match(COMMENT):
            self.place += len("<!--")
            return self.leave_out_until(_COMMENT_END)
        if self.skip(SILENT):
            return
        if cdata := self.match(CDATA):
            self.spoken.say(cdata["text"])
            self.place = cdata.end()
            return
        tag = self.match(TAG)
        if tag is None:
            return self.say()
        name = tag["name"].lower()
        if name == "break" and not tag["close"]:
            self._break(tag)
        elif name in ("say-as", "sub") and not tag["close"] and self._as_said(tag, name):
            return
        elif name == "p":
            self.spoken.end(PARAGRAPH_SEC)
        elif name == "s":
            self.spoken.end()
        elif not tag["close"] and name not in ("speak", "say-as", "sub"):
            self._tell(f"<{tag['name']}>")
        self.place = tag.end()

    def _tell(self, tag: str) -> None:
        if tag not in self._told and len(self._told) < 100:
            self._told.add(tag)
            self.spoken.leave_out(tag)

    def _break(self, tag: regex.Match[str]) -> None:
        asked, strength = attribute(tag, "time"), attribute(tag, "strength")
        time = _TIME.fullmatch(asked)
        if (asked and not time) or strength not in ("", *_STRENGTHS):
            self._tell(tag.group())
        sec = float(time[1]) / (1000 if time[2] == "ms" else 1) if time else _STRENGTHS.get(strength, 0.5)
        if sec > 0:
            self.spoken.wait(sec, tag.group())

    def _as_said(self, tag: regex.Match[str], name: str) -> bool:
        """Reads a whole say-as or sub without elements inside; anything else is read as ordinary text."""
        if tag.group().endswith("/>"):
            return False
        place, self.place = self.place, tag.end()
        try:
            content = self.match(_CONTENT)
        finally:
            self.place = place
        kind = attribute(tag, "interpret-as")
        kind = _SAME.get(kind, kind)
        alias, form = attribute(tag, "alias"), attribute(tag, "format")
        if content is None or content["name"] != name or not (alias if name == "sub" else kind in _KINDS):
            self._tell(tag.group())
            return False
        text = " ".join(unescape(content["text"]).split())
        said = say_as(f"sub={alias}" if name == "sub" else f"{kind}={form}" if form else kind, text)
        if said == text and name == "sub":  # too long to travel with what is written, which may be nothing
            said = alias
            if text:
                self.spoken.leave_out(text)
        self.spoken.say(said)
        self.place = content.end()
        return True
