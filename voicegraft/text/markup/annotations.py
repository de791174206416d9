"""What markup says beyond its text: how words are read, and pauses. It travels inside the text, in noncharacters.

``OPEN kind SAY written CLOSE`` is read in the way the kind says; spaces in it are ``SPACE``, so that nothing divides it.
``PAUSE milliseconds CLOSE`` is a pause, and stands at the end of a sentence. No text may hold these characters:
``read_markup`` takes them out before it writes its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OPEN, SAY, CLOSE, PAUSE, SPACE = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3", "\ufdd4"
MAX_CHARS = 200  # of what an annotation says, and of its kind
ANNOTATION = re.compile(f"{OPEN}([^{OPEN}-{PAUSE}]*){SAY}([^{OPEN}-{PAUSE}]*){CLOSE}")
PAUSES = re.compile(f"{PAUSE}([0-9]+){CLOSE}")
_LAST_PAUSES = re.compile(f"(?:{PAUSES.pattern}\\s*)+$")
_STRAY = re.compile(f"[{OPEN}-{SPACE}]")


@dataclass(frozen=True)
class Annotation:
    """How a slice of a written text is read: ``sub=ALIAS``, or a kind of SSML's say-as such as ``digits`` or ``date=mdy``."""

    start: int
    end: int
    kind: str


def say_as(kind: str, written: str) -> str:
    """The text that says how `written` is read; `written` alone if either is too long or holds nothing."""
    written, kind = (" ".join(_STRAY.sub(" ", text).split()) for text in (written, kind))
    if not written or not kind or max(len(written), len(kind)) > MAX_CHARS:
        return written
    return f"{OPEN}{kind}{SAY}{written}{CLOSE}".replace(" ", SPACE)


def pause(sec: float) -> str:
    """The text that stands for a pause."""
    return f"{PAUSE}{round(1000 * sec)}{CLOSE}"


def take_pause(sentence: str) -> tuple[str, float]:
    """The sentence without the pauses at its end, and their seconds."""
    found = _LAST_PAUSES.search(sentence)
    if found is None:
        return sentence, 0.0
    return sentence[: found.start()].rstrip(), sum(map(int, PAUSES.findall(found.group()))) / 1000


def whole_until(text: str, start: int, limit: int) -> int:
    """Where to cut a text that has no better place, at `limit` or beside the annotation that stands there."""
    begun = max(text.rfind(OPEN, start, limit), text.rfind(PAUSE, start, limit))
    end = text.find(CLOSE, begun) + 1
    if begun < 0 or not limit < end:
        return limit
    return begun if begun > start else end


def read_annotations(text: str) -> tuple[str, tuple[Annotation, ...]]:
    """The text as it is written, without a trace of annotations, and the annotations in it, in order."""
    written, found, place = "", [], 0
    text = PAUSES.sub("", text).replace(SPACE, " ")
    for match in ANNOTATION.finditer(text):
        written += _STRAY.sub("", text[place : match.start()])
        found.append(Annotation(len(written), len(written) + len(match[2]), match[1]))
        written += match[2]
        place = match.end()
    return written + _STRAY.sub("", text[place:]), tuple(found)
