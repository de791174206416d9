"""What the beginning of a line means, and whether the line before it ends a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from voicegraft.text.markup.scanner import Incomplete, Scanner
from voicegraft.text.markup.spoken import HEADING_SEC, PARAGRAPH_SEC, SECTION_SEC, Spoken
from voicegraft.text.patterns import lazy_regex

if TYPE_CHECKING:
    import regex

_TIME = r"[ \t]*(?:\d{1,3}:)?\d\d:\d\d[.,]\d{3}[ \t]*-->[^\n]{0,300}\n"
_WEBVTT = lazy_regex(
    r"WEBVTT(?:[ \t]{1,9}-[^\n]{0,500})?[ \t]*\n(?:[A-Za-z-]{1,40}[:=][^\n]{0,500}\n){0,50}(?=[ \t]*\n|[^\n]{0,500}-->)"
)
_CUE = lazy_regex(rf"(?:[ \t]*\d{{1,9}}[ \t]*\n)?{_TIME}")
_NAMED_CUE = lazy_regex(rf"(?:[^\n]{{1,300}}\n)?{_TIME}")
_CUE_BLOCK = lazy_regex(r"(?:NOTE|STYLE|REGION)(?=[ \t\n])")
_CUE_BLOCK_END = re.compile(r"\n[ \t]{0,90}\n")
_CUE_DASH = lazy_regex(r"[-–][ \t]{0,9}(?=[^\s\d-])")
_BLANK = lazy_regex(r"[ \t]*(?:>[ \t]*){0,50}\n")
_QUOTE = lazy_regex(r"[ \t]*>(?:[ \t]{1,20}(?=\S)|(?=[^\W\d]|[>\"'“‘*_\[]))")
_FENCE = lazy_regex(
    r"[ \t]*(?P<fence>`{3,20}(?!`)(?=[^`\n]{0,200}\n)|~{3,20}(?!~))[ \t]*(?P<language>[^\n]{0,200})(?=\n)"
)
_RULE = lazy_regex(r"[ \t]*(?:(?P<mark>[-*_])(?:[ \t]{0,9}(?P=mark)){1,100}|(?P<mark>[-=])(?P=mark){1,300})[ \t]*\n")
_ROW_RULE = lazy_regex(r"[ \t]*[|+](?=[^\n]{0,1000}[-=])[-|+:= \t]{2,1000}\n")
_INNER_ROW_RULE = r"[ \t]*:?-{1,200}:?[ \t]*(?:\|[ \t]*:?-{0,200}:?[ \t]*){1,100}\n"
_INNER_RULE = lazy_regex(_INNER_ROW_RULE)
_HEADER = lazy_regex(rf"\|[^\n]{{0,2000}}\n(?={_INNER_ROW_RULE})")  # from the first bar on, with the rule below
_ROW = lazy_regex(r"[ \t]*\|(?=[^\n]{0,8000}\|[ \t]*\n)")
_BAR = lazy_regex(r"[ \t]*\|")
_HAS_BAR = lazy_regex(r"(?=[^\n|]{0,2000}\|)")
_HEADING = lazy_regex(r"[ \t]*#{1,6}[ \t]{1,20}(?=\S)")
_BULLET = lazy_regex(r"[ \t]*(?:[-*+–][ \t]+|[•‣◦▪●○·][ \t]*)(?=\S)")
_TASK = lazy_regex(r"\[[ xX]\][ \t]+(?=\S)")
_NUMBER = lazy_regex(r"[ \t]*(?P<number>\d{1,3})[.)][ \t]+(?=\S)")
_FOOTNOTE = lazy_regex(r"[ \t]*\[\^[^\]\s]{1,40}\]:[ \t]{0,20}(?=\S)")
_DEFINITION = lazy_regex(
    r"[ \t]*\[[^\]\n]{1,100}\]:[ \t]+(?P<to><?(?:\w{2,9}:|[/.#]|[\w.-]{1,200}[./#]\w)[^\s<>]{0,20000})>?"
    r"(?:[ \t]+(?:\"[^\"\n]{0,500}\"|'[^'\n]{0,500}'|\([^()\n]{0,500}\)))?[ \t]*\n"
)
_WORD = lazy_regex(r"(?P<indent>[ \t]{0,1000})(?P<word>\S{60}|\S{1,59}(?=\s))")
_NEVER_LAST = re.compile(r"(?:\b(?:an?|the|of|to|Mr|Mrs|Ms|Dr)\.?|&)$")  # of a verse or a list's line
_FIRST_LETTER = re.compile(r"(?:<[^<>]*>)*[\W_]*(\w)")
_READ_FENCES = frozenset(("text", "txt", "plain", "plaintext", "markdown", "md"))
_MAX_INDENT = 1000
_MAX_HEADING = 60  # characters of a paragraph that is a heading though nothing marks it
# A line ends on purpose where the next word would have had room: on a line as wide as the longest that was
# broken before a small letter, or as wide as a verse if none was seen. Small letters begin lines of small lists only.
_VERSE_CHARS, _SMALL_CHARS, _WRAPPED_CHARS, _FULL = 60, 30, (45, 80), 0.85


class LineScanner(Scanner):
    """Blocks of Markdown, cues of subtitles, verses."""

    def __init__(self, spoken: Spoken):
        super().__init__(spoken)
        self.at_line = True  # a line begins here, and nothing of it has been read
        self.is_heading = False
        self.is_subtitle = False
        self.is_html = False  # a line is as long as its author's editor
        self._table = ""  # the mark that its rows begin with: a bar, or none ("-")
        self._is_item = self._at_item = False  # in an item of a list, right after its mark
        self._is_quoted = self._was_quoted = False  # this line, the line before
        self._is_fenced_text = False
        self._number = 0  # of the last item of a list
        self._after_blank = True
        self._num_lines = 0  # of the paragraph
        self._broken: int | None = None  # characters of the line before, if the paragraph may go on
        self._width = 0  # characters of the longest line that was broken because it was full
        self._begun = 0  # where the line begins
        self._begins_small = False  # with a small letter
        self._openings: tuple[tuple[str, regex.Pattern[str], Callable[[regex.Match[str]], bool]], ...] = (
            ("\n>", _BLANK, self._blank),
            (">", _QUOTE, self._quote),
            ("`~", _FENCE, self._fence),
            ("|+", _ROW_RULE, self._row_rule),
            (":-", _INNER_RULE, self._row_rule),
            ("-*_=", _RULE, self._rule),
            ("|", _ROW, self._row),
            ("#", _HEADING, self._heading),
            ("-*+–•‣◦▪●○·", _BULLET, self._item),
            ("[", _TASK, self._task),
            ("[", _FOOTNOTE, self._item),
            ("[", _DEFINITION, self._definition),
            ("0123456789", _CUE, self._cue),
            ("0123456789", _NUMBER, self._numbered),
        )

    def step(self) -> None:
        if self.at_line:
            self._begin_line()
        else:
            super().step()

    def end(self, sec: float = 0.0) -> None:
        """The sentence ends here, and the paragraph does not go on."""
        self.spoken.end(sec)
        self._broken = None

    def end_line(self) -> None:
        """At a line feed."""
        length = self.base + self.place - self._begun
        self.place += 1
        self.at_line = True
        self._num_lines += 1
        self._was_quoted, self._is_quoted = self._is_quoted, False
        if self.is_heading or self._table:
            self.end(HEADING_SEC if self.is_heading else 0.0)
            self.is_heading = False
        else:
            self.spoken.space("\n")
            self._broken = None if self.is_html or self.is_subtitle else length

    def is_row(self) -> bool:
        """Whether the bar at this place stands between the cells of a table."""
        if not self._table and self.match(_HEADER):
            self._table = "-"
        return bool(self._table)

    def _begin_line(self) -> None:
        if self.base + self.place == 0 and self.text[0] == "W" and (header := self.match(_WEBVTT)):
            self.is_subtitle, self.place = True, header.end()
            return
        if self.is_subtitle:
            return self._begin_cue()
        first = self.text[self.place : self.place + _MAX_INDENT].lstrip(" \t")[:1]
        if not first and not self.is_last and len(self.text) - self.place < _MAX_INDENT:
            raise Incomplete
        for firsts, pattern, opening in self._openings:
            if first in firsts and (found := self.match(pattern)) and opening(found):
                self.place = found.end()
                return
        if self._table == "|" and (found := self.match(_BAR)):
            self.place = found.end()
        elif self._table and (self._table == "|" or not self.match(_HAS_BAR)):
            self._table = ""
        if self._broken is not None and not self._table:
            self._judge_break(self._broken)
        self._begin_text()

    def _begin_text(self) -> None:
        self.at_line = False
        self._begun = self.base + self.place
        self._begins_small = self.text[self.place].islower()
        self._broken, self._after_blank, self._at_item = None, False, False

    def _judge_break(self, length: int) -> None:
        """Whether the line before ends a sentence: a verse, a short line of a list, a line of an address."""
        found = self.match(_WORD)
        if found is None:
            return
        letter = _FIRST_LETTER.match(found["word"])
        needed = length + 1 + len(found["word"])
        if letter is None or letter[1].islower():
            low, high = _WRAPPED_CHARS
            if low <= length:
                self._width = max(self._width, min(length, high))
            is_end = self._begins_small and needed <= _SMALL_CHARS and not (self._is_item and found["indent"])
        elif _NEVER_LAST.search(self.spoken.tail):
            is_end = False
        else:
            is_end = needed <= min(_VERSE_CHARS, _FULL * (self._width or _VERSE_CHARS / _FULL))
        if is_end:
            self.end()

    def _blank(self, found: regex.Match[str]) -> bool:
        is_line = self._num_lines == 1 and self._broken is not None and not self._is_item
        is_heading = is_line and (self._broken or 0) <= _MAX_HEADING and self.spoken.tail[-1:].isalnum()
        self.end(HEADING_SEC if is_heading else PARAGRAPH_SEC)
        self._num_lines, self._table, self._after_blank = 0, "", True
        self._is_item = self.is_html = False
        return True

    def _quote(self, found: regex.Match[str]) -> bool:
        if self._broken is not None and not self._was_quoted:
            self.end()
        self._is_quoted = True
        return True

    def _fence(self, found: regex.Match[str]) -> bool:
        """Code is left out: nobody reads a program aloud, and what is around it goes on without. Text in a fence is read."""
        self.end(PARAGRAPH_SEC)
        language, fence = found["language"].strip().lower(), found["fence"]
        if self._is_fenced_text and not language:
            self._is_fenced_text = False
        elif language in _READ_FENCES:
            self._is_fenced_text = True
        else:
            self.leave_out_until(re.compile(rf"\n[ \t>]{{0,20}}{fence[0]}{{{len(fence)},30}}[ \t]{{0,20}}\n"))
        return True

    def _row_rule(self, found: regex.Match[str]) -> bool:
        is_rule = found.group().lstrip(" \t")[0] in "|+" or self._table == "-"
        if is_rule:
            self.end()
        return is_rule

    def _row(self, found: regex.Match[str]) -> bool:
        self.end()
        self._table = "|"
        self._begin_text()
        return True

    def _rule(self, found: regex.Match[str]) -> bool:
        """Three stars between scenes, or the line under a heading."""
        is_underline = self._broken is not None and found["mark"] in "-="
        self.end(HEADING_SEC if is_underline else SECTION_SEC)
        self._num_lines = 0
        return True

    def _heading(self, found: regex.Match[str]) -> bool:
        self.end()
        self.is_heading = True
        self._begin_text()
        return True

    def _item(self, found: regex.Match[str]) -> bool:
        self.end()
        self._is_item = self._at_item = True
        return True

    def _numbered(self, found: regex.Match[str]) -> bool:
        """An item of a list, whose number is said; not the end of a sentence in a wrapped paragraph."""
        number = int(found["number"])
        if self._broken is not None and not self._is_item and number not in (1, self._number + 1):
            return False
        self._item(found)
        self._number = number
        self.spoken.say(f"{found['number']}. ")
        self._begin_text()
        return True

    def _task(self, found: regex.Match[str]) -> bool:
        return self._at_item

    def _definition(self, found: regex.Match[str]) -> bool:
        self.spoken.leave_out(found["to"])
        return True

    def _cue(self, found: regex.Match[str]) -> bool:
        self.is_subtitle, self._after_blank = True, False
        self._broken = None
        return True

    def _begin_cue(self) -> None:
        """A line of subtitles. Cues are running text, whatever lies between them."""
        if self.skip(_BLANK):
            self._after_blank = True
        elif self.skip(_NAMED_CUE if self._after_blank else _CUE):
            self._after_blank = False
        elif self._after_blank and self.match(_CUE_BLOCK):
            self.leave_out_until(_CUE_BLOCK_END)
        elif self._after_blank:
            self.is_subtitle = False  # the subtitles have ended
            self.end(PARAGRAPH_SEC)
        else:
            if self.skip(_CUE_DASH):  # another one speaks
                self.end()
            self._begin_text()
