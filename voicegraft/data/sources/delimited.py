"""Rows of tables whose cells are delimited, as people write them: what is wrong with one costs that row alone."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.text_input import file_lines

QUOTED = ",;"  # delimiters between which quotes are no part of the text
_MOST_LINES = 20  # of a cell
_FIRST_ROWS = 1000  # by which it is told what stands where
_NAME = re.compile(r"[\w.-]{1,40}")  # of a speaker
_log = logging.getLogger(__name__)


def quoted_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Line number -> cells, or what is wrong. Quotes are quotes between commas; between tabs and bars they are text.

    A quote that is not closed costs its own line, and not all that follow.
    """
    lines, waiting = enumerate(file_lines(path, replaces=True), start=1), deque[tuple[int, str]]()

    def following() -> tuple[int, str] | None:
        return waiting.popleft() if waiting else next(lines, None)

    while (taken := following()) is not None:
        number, text = taken
        more: list[tuple[int, str]] = []
        if delimiter not in QUOTED:
            yield number, text.rstrip("\n").split(delimiter)
            continue
        while text.count('"') % 2 and len(more) < _MOST_LINES and (another := following()) is not None:
            more.append(another)
            text += another[1]
        try:
            if text.count('"') % 2:
                raise csv.Error("a quote is not closed")
            yield number, next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=bool(more)), [])
        except csv.Error as error:
            yield number, f"{error}; expected cells between {delimiter!r}, quotes only around whole ones"
            waiting.extendleft(reversed(more))


def bar_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number -> what stands between bars, for lines with anything in them."""
    for number, line in enumerate(file_lines(path, replaces=True), start=1):
        if line.strip(" \t\n|"):
            yield number, line.rstrip("\n").split("|")


@dataclass(frozen=True)
class BarForm:
    """What stands where in a table without a header."""

    num_columns: int
    text: int  # column; or, of two texts, the one in words
    speaker: int | None
    agrees: bool  # whether two texts say the same, in most rows

    @staticmethod
    def of(path: Path) -> BarForm:
        """By the rows at the beginning.

        Raises:
            VoicegraftError: most have another number of columns.
        """
        rows = [[cell.strip() for cell in cells] for _, cells in islice(bar_rows(path), _FIRST_ROWS)]
        counts = Counter(len(cells) for cells in rows)
        width = min(counts, key=lambda width: (-counts[width], width), default=2)
        if width > 3:
            raise VoicegraftError(
                f"{path}: expected name|text or name|text|text in words, most lines have {width} columns: name them in a "
                "first line, as in audio|text|speaker"
            )
        three = [cells for cells in rows if len(cells) == 3]
        if width < 3:
            return BarForm(2, 1, None, True)
        for speaker, text in ((1, 2), (2, 1)):
            spaced = sum(" " in cells[text] for cells in three)
            if all(_NAME.fullmatch(cells[speaker]) for cells in three) and 2 * spaced >= len(three):
                _log.warning("%s: column %d is read as the speaker, such as %r", path, speaker + 1, three[0][speaker])
                return BarForm(3, text, speaker, True)
        return BarForm(3, 2, None, 2 * sum(texts_agree(*cells[1:]) for cells in three) > len(three))


def texts_agree(one: str, other: str) -> bool:
    """Whether two texts may say the same: most words of the shorter stand in the other, but for numbers and the like."""
    words = [set(re.findall(r"[^\W\d_]+", text.casefold())) for text in (one, other)]
    fewest = min(map(len, words))
    return fewest < 2 or len(words[0] & words[1]) > 0.55 * fewest
