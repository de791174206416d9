"""Markdown, HTML and subtitles, in any mixture, and ordinary text, of which all three are a part."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from voicegraft.text.markup import elements
from voicegraft.text.markup.elements import attribute
from voicegraft.text.markup.lines import LineScanner
from voicegraft.text.markup.spoken import PARAGRAPH_SEC, Spoken
from voicegraft.text.patterns import lazy_regex

if TYPE_CHECKING:
    import regex

_INNER = r"(?:[^\[\]\\\n]|\\.|\n(?![ \t]*\n)|\[[^\[\]\n]{0,200}\]){0,500}"
_TITLE = r"""(?:"[^"\n]{0,500}"|'[^'\n]{0,500}')"""
_GAP = r"[ \t]{0,20}\n?[ \t]{0,20}"
_TO = rf"{_GAP}<?(?P<to>[^\s()<>]{{0,20000}}(?:\([^\s()]{{0,500}}\)[^\s()<>]{{0,500}}){{0,20}})>?(?:{_GAP}{_TITLE})?{_GAP}"
_LINK = lazy_regex(rf"!?\[(?P<text>{_INNER})(?P<end>\](?:\({_TO}\)|\[[^\[\]\n]{{0,100}}\]))")
_NOTE = lazy_regex(r"\[\^[^\]\s]{1,40}\]")
_CODE = lazy_regex(
    r"`(?!`)(?P<text>[^`\n]{1,500})`(?!`)|``(?!`)(?P<text>(?:[^`\n]|`(?!`)){1,500})``(?!`)"
    r"|```(?!`)(?P<text>(?:[^`\n]|``?(?!`)){1,500})```(?!`)"
)
_RUN = lazy_regex(r"(?P<run>([*_~])\2{0,3})(?P<next>(?s:.))")
_ESCAPED = lazy_regex(r"\\(?P<text>[*_#\[\]()`~|<>{}.!+-])")
_HASHES = lazy_regex(r"#{1,6}[ \t]{0,20}\n")
_STYLE = lazy_regex(r"\{\\[^{}\n]{0,100}\}")  # {\an8}
_CUE_TAG = lazy_regex(r"</?(?:[A-Za-z][^<>\n]{0,200}|\d[\d:.]{0,20}|)>")
_CODE_TAG = re.compile(r"</?([A-Za-z][\w-]*)\s*/?>")
# What may stand before emphasis: it is not in the middle of a word or an address.
_OPENS_AFTER = frozenset((*" \t\n\xa0\"'“‘([{<>|*_~—–-:;,!?", ""))
_COMMENT_END = re.compile("-->")
_CODE_END = re.compile("(?i)</(?:code|pre)>")
_MAX_DEPTH = 100  # lists in lists that are counted


class DocumentReader(LineScanner):
    def __init__(self, spoken: Spoken):
        super().__init__(spoken)
        self.steps |= {
            "\n": self.end_line, "<": self._angle, "[": self._bracket, "!": self._bracket, "]": self._link_end,
            "`": self._code, "*": self._emphasis, "_": self._emphasis, "~": self._emphasis, "\\": self._escaped,
            "|": self._bar, "#": self._hash, "{": self._brace,
        }  # fmt: skip
        self._marks: set[str] = set()  # of emphasis that is open
        self._links: list[tuple[int, int]] = []  # where the text of a link ends, and where the link ends
        self._numbers: list[int | None] = []  # the next item of every open list of HTML that has numbers
        self._after_pre = False

    def end(self, sec: float = 0.0) -> None:
        """The sentence ends here, and with it the emphasis that was open."""
        super().end(sec)
        self._marks.clear()

    def _hash(self) -> None:
        if self.is_heading and (hashes := self.match(_HASHES)):
            self.place = hashes.end() - 1
        else:
            self.say()

    def _brace(self) -> None:
        if not (self.is_subtitle and self.skip(_STYLE)):
            self.say()

    def _escaped(self) -> None:
        if self.match(_ESCAPED):
            self.place += 1
        self.say()

    def _bar(self) -> None:
        if self.is_row():
            self.spoken.space(", ")
            self.place += 1
        else:
            self.say()

    def _bracket(self) -> None:
        link = self.match(_LINK)
        if link is None or (link["to"] is None and self.after_word):  # rows[1][2]
            if not self.skip(_NOTE):
                self.say()
            return
        if link["to"]:
            self.spoken.leave_out(link["to"])
        self._links.append((self.base + link.start("end"), self.base + link.end()))
        self.place = link.start("text")

    def _link_end(self) -> None:
        here = self.base + self.place
        while self._links and self._links[-1][0] < here:
            self._links.pop()
        if self._links and self._links[-1][0] == here:
            self.place = self._links.pop()[1] - self.base
        else:
            self.say()

    def _code(self) -> None:
        """Code between words is said; it may hold what would be markup elsewhere. Between letters the mark is an apostrophe."""
        found = None if self.after_word else self.match(_CODE)
        if found:
            tag = _CODE_TAG.fullmatch(found["text"])
            self.spoken.say(tag[1] if tag else found["text"].strip())
            self.place = found.end()
        elif self.before.isalpha():
            self.spoken.say("'")
            self.place += 1
        else:
            marks = self.text[self.place : self.place + 3]
            self.say(len(marks) - len(marks.lstrip("`")))

    def _emphasis(self) -> None:
        found = self.match(_RUN)
        assert found is not None
        run, following, before = found["run"], found["next"], self.before
        mark, length = run[0], len(run)
        if length > 3 or before == mark or following == mark or (mark == "~" and length != 2):
            return self.say(length)
        if run == "**" and before.isalnum() and following.isdigit() and run not in self._marks:
            self.spoken.say("^")  # a power
        elif not before.isspace() and self._close(run, mark == "_" and following.isalnum()):
            pass
        elif following not in " \t\n<" and before in _OPENS_AFTER and not self._multiplies(following):
            self._marks.add(run)
        else:
            return self.say(length)
        self.place += length

    def _close(self, run: str, goes_on: bool) -> bool:
        """Whether that emphasis was open; it no longer is."""
        parts = {run} if run in self._marks else {run[0], run[:2]} if len(run) == 3 else {run}
        if goes_on or not parts <= self._marks:
            return False
        self._marks -= parts
        return True

    def _multiplies(self, following: str) -> bool:
        return following.isdigit() and self.before.isspace() and self.spoken.tail[-1:].isdigit()

    def _angle(self) -> None:
        if self.is_subtitle and self.skip(_CUE_TAG):
            return
        if self.match(elements.COMMENT):
            self.place += len("<!--")
            return self.leave_out_until(_COMMENT_END)
        if self.skip(elements.SILENT):
            return
        if said := self.match(elements.CDATA) or self.match(elements.ADDRESS):
            self.spoken.say(said["text"])
            self.place = said.end()
            return
        if up := self.match(elements.RAISED):
            self.spoken.say(elements.raised(up["text"], self.before))
            self.place = up.end()
            return
        tag = self.match(elements.TAG)
        if tag is None or not elements.is_tag(tag, self.after_word):
            return self.say()
        self.place = tag.end()
        self._element(tag, tag["name"].lower(), not tag["close"])

    def _element(self, tag: regex.Match[str], name: str, opens: bool) -> None:
        after_pre, self._after_pre = self._after_pre, opens and name == "pre"
        if not elements.is_known(tag["name"]):
            self.spoken.space()
            if opens and not tag["attributes"]:
                self.spoken.leave_out(tag.group())  # a tag that nobody knows, or a gap in a form: Dear <name>
            return
        if opens and name in elements.RAW:
            self.spoken.space()
            return self.leave_out_until(re.compile(rf"(?i)</{name}\s{{0,9}}>"))
        if opens and name == "code" and after_pre:
            return self.leave_out_until(_CODE_END)
        if name == "br":
            return self.end(PARAGRAPH_SEC if self.spoken.is_ended else 0.0)
        if name in elements.CELLS:
            self.spoken.space(", ")
        elif name in elements.PAUSES:
            self.end(elements.PAUSES[name])
            self.is_html = opens and name not in ("pre", "hr")
            self._list(tag, name, opens)
        elif elements.breaks_words(name):
            self.spoken.space()
        if opens and name == "img":
            self.spoken.say(f" {attribute(tag, 'alt')} ")
        if opens and name == "a" and (to := attribute(tag, "href")) and not to.startswith("#"):
            self.spoken.leave_out(to)

    def _list(self, tag: regex.Match[str], name: str, opens: bool) -> None:
        """Counts the items of lists with numbers, and says the numbers."""
        if name in ("ol", "ul"):
            if not opens:
                del self._numbers[-1:]
            elif len(self._numbers) < _MAX_DEPTH:
                start = attribute(tag, "start")
                self._numbers.append(None if name == "ul" else int(start) if re.fullmatch("[0-9]{1,9}", start) else 1)
        elif name == "li" and opens and self._numbers and (number := self._numbers[-1]) is not None:
            self.spoken.say(f"{number}. ")
            self._numbers[-1] = number + 1
