"""Finds where sentences end, on text that may still be arriving, and cuts the endless ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from voicegraft.text.english.words import table, word_set
from voicegraft.text.markup.annotations import whole_until

DEFAULT_MAX_CHARS = 220  # characters of one piece; about 15 seconds of speech
_NEVER_LAST = word_set("never last")
_BEFORE_NUMBER = word_set("before number") | {book.lower() for book in table("scripture")} | {"rs"}
_EITHER = word_set("either") | {key[:-1].lower() for key in table("short forms") if key.endswith(".")} - {"etc"}
_VOWELS = frozenset("aeiouy")
_CLOCK = frozenset(("a.m", "p.m"))
_AFTER_CLOCK = word_set("after clock")
STARTERS = word_set("starters")
# Paragraphs arrive as form feeds, see _canonical.
_CANDIDATE = re.compile(r"[.!?]+['\")\]}]*(?=[ \n\f])|\f|\n(?=(?:[-*#]+|\d{1,2}[.)]) |\|)|(?<=\|)\n")
_HEADING = re.compile(r"#{1,6} [^\n\f]*\n")
_NEXT_WORD = re.compile(r"[ \n\f]['\"“‘(\[{]*([^ \n\f'\"”’)\]},.!?;:]*)(.?)", re.DOTALL)
_LAST_WORD = re.compile(r"(?:^|[ \n\f('\"“‘\[{–—-])([^ \n\f('\"“‘\[{–—-]*)$")
_SPACE = re.compile(r"\s{2,}|[^\S ]")  # a space alone stays
_SEVERAL = re.compile(r"[.!?]['\")\]}]* |[^\S ]|  |^[ #]| $|\ufeff")  # no text of one sentence on a line lacks these
_THIN_SPACES = frozenset("\u00a0\u2007\u2009\u202f")
_STREETS = frozenset(["ave", "blvd", "rd", "ln", "ct", "pl", "sq", "pkwy", "hwy"])
# A street has a name before it: Oak Dr., 5th Ave.
_STREET = re.compile(r"(?:\S .*\b[A-Z][\w'-]*|\d(?:st|nd|rd|th)) \w+$")
_ADDRESS = re.compile(r"(?:[NS]?[EW]?|Apt|Suite|Ste|Unit|Room|Rm|Floor|Fl|North|South|East|West|#?\d.*|#.*)$")
_ANSWER = re.compile(r"\b(?:is|was|be|said|says?|saying|answered|replied|or|oh|well|absolutely|simply|definitely) no$")
# The first clause of a sentence that goes on for a while; no stop is near that might end the sentence.
_CLAUSE = re.compile(r"[^.!?\n\f|]{24,}?[,;:](?= (?!\d)[^.!?\n\f]{15})")
_LOOKAHEAD = 40  # characters after a candidate that are enough to decide
# Where to cut what has no end, best first; the part before the cut is kept by the first group.
_CUTS = (
    re.compile(r".*[;:!?]['\")\]]*(?=\s)", re.DOTALL),
    re.compile(r".*(?:[,)][\'\"]?(?=\s)|\s[–-]+(?=\s))", re.DOTALL),
    re.compile(
        r".*(?=\s(?:and|but|or|nor|because|which|who|whose|that|while|when|where|although|though|since|if"
        r"|unless|than|as|so|until|before|after)\s)",
        re.DOTALL,
    ),
    re.compile(r".*(?=\s)", re.DOTALL),
)


def split_sentences(text: str, max_chars: int = DEFAULT_MAX_CHARS) -> list[str]:
    """The sentences of a text, each on one line, none longer than `max_chars` characters.

    Joining them with spaces gives back every word in order. Longer sentences are cut at semicolons and
    colons, else commas and dashes, else before conjunctions, else between words, else anywhere.

    Raises:
        ValueError: max_chars is below 2.
    """
    if 1 < len(text) <= max_chars and not _SEVERAL.search(text):
        return [text]
    return list(iter_sentences([text], max_chars))


def iter_sentences(chunks: Iterable[str], max_chars: int = DEFAULT_MAX_CHARS, hurry: bool = False) -> Iterator[str]:
    """The same sentences from text that arrives in chunks of any size, each as soon as its end is certain.

    An end is certain when the next word is there. Memory is bounded by the longest chunk.

    Args:
        hurry: the first clause of the first sentence comes alone, where the sentence goes on.
    """
    if max_chars < 2:
        raise ValueError(f"max_chars must be at least 2, got {max_chars}")
    buffer = ""
    for chunk in _canonical(chunks):
        buffer += chunk
        start = _skip_space(buffer, 0) if hurry else 0
        while (end := _clause_or_end(buffer, start, max_chars, hurry)) is not None:
            hurry = False
            yield from _piece(buffer[start:end])
            start = _skip_space(buffer, end)
        buffer = buffer[start:]
    start = _skip_space(buffer, 0)
    while start < len(buffer):
        end = _next_end(buffer, start, max_chars, is_last=True)
        end = len(buffer) if end is None else end
        yield from _piece(buffer[start:end])
        start = _skip_space(buffer, end)


def _clause_or_end(text: str, start: int, max_chars: int, hurry: bool) -> int | None:
    clause = _CLAUSE.match(text, start, min(len(text), start + max_chars)) if hurry else None
    return clause.end() if clause else _next_end(text, start, max_chars, is_last=False)


def _piece(text: str) -> Iterator[str]:
    line = text.replace("\n", " ").replace("\f", " ").strip()
    if line:
        yield line


def _skip_space(text: str, start: int) -> int:
    while start < len(text) and text[start] in " \n\f":
        start += 1
    return start


def _canonical(chunks: Iterable[str]) -> Iterator[str]:
    """Makes every run of white space one character: a form feed between paragraphs, a line feed, or a space.

    A run is put out together with the character after it, so a reader never sees half of one.
    """
    pending = ""  # the white space seen so far, at most two characters of it
    for chunk in chunks:
        chunk = pending + chunk.replace("\ufeff", "")
        ending = len(chunk.rstrip())
        pending = "\n" * min(2, chunk.count("\n", ending)) or chunk[ending : ending + 2]
        if ending:
            yield _SPACE.sub(_one_space, chunk[:ending])


def _one_space(match: re.Match[str]) -> str:
    """A no-break or thin space before a digit parts the groups of a number, and stays."""
    run = match.group()
    if run in _THIN_SPACES and match.string[match.end() : match.end() + 1].isdigit():
        return "\u00a0"
    num_lines = run.count("\n")
    return "\f" if num_lines > 1 else "\n" if num_lines else " "


def _next_end(text: str, start: int, max_chars: int, is_last: bool) -> int | None:
    """Where the sentence that begins at `start` ends; None while later text may still change the answer."""
    limit = start + max_chars
    position = start
    heading = _HEADING.match(text, start, min(len(text), limit))
    while True:
        match = _CANDIDATE.search(text, position, min(len(text), limit + 2))
        if heading and (match is None or match.end() > heading.end()):
            return heading.end()
        if match is None or match.end() > limit:
            break
        following = _NEXT_WORD.match(text, match.end())
        if match.group() in ("\f", "\n"):
            return match.end()
        if following is None or not (is_last or following.group(2) or len(text) >= match.end() + _LOOKAHEAD):
            return None
        if _is_end(text, start, match, following.group(1), following.group(2), text[match.end()]):
            return match.end()
        position = match.end()
    if len(text) <= limit + (0 if is_last else _LOOKAHEAD):
        return None
    window = text[start : limit + 1]
    for cut in _CUTS:
        found = cut.match(window)
        if found and found.end() >= min(max_chars // 3, 40):
            return start + found.end()
    return whole_until(text, start, limit)


def _is_end(text: str, start: int, match: re.Match[str], following: str, after: str, space: str) -> bool:
    """Whether the stop that `match` found ends a sentence, given the word after it and what follows that."""
    if space == "\f":
        return True
    if following in ("&", "=", "+", "×"):
        return False
    marks = match.group()
    stops = marks.rstrip("'\")]}")
    is_quoted = stops != marks and not marks.endswith(")")
    lower = following[:1].islower()
    before = _LAST_WORD.search(text[max(start, match.start() - _LOOKAHEAD) : match.start()])
    word = before.group(1) if before else ""
    if "!" in stops or "?" in stops:
        return not (lower and (is_quoted or word in ("k", "m", "n", "x")))  # a factorial
    if stops != ".":  # an ellipsis
        return not lower and bool(following)
    key = word.lower()
    next_key = following.lower()
    if next_key in _STREETS or (re.fullmatch(r"\d+s", key) and re.fullmatch(r"\d+d", next_key)):
        return False  # 12 Mass. Ave., 3s. 6d.
    ahead = text[max(start, match.start() - _LOOKAHEAD) : match.start()]
    if key in _NEVER_LAST and (len(word) > 1 or word.islower()):
        return not lower and next_key in STARTERS and bool(_STREET.search(ahead))
    is_numeral = re.fullmatch("[IVXLC–-]+|[ivxlc–-]+", following) and (key, following) != ("no", "I")
    if key in _BEFORE_NUMBER and (following[:1].isdigit() or following[:1] == "#" or is_numeral):
        return bool(_ANSWER.search(ahead))
    if key in _STREETS and not lower and following and _STREET.search(ahead):
        return not _ADDRESS.match(following)
    if re.fullmatch("[IVXLC]{2,}", word) and text[start : match.start()].strip() == word:
        return False  # the number of a heading
    if key in _CLOCK:
        opens = len(text[start : match.start()].split()) <= 3  # At 5 p.m. John left.
        return not lower and next_key not in _AFTER_CLOCK and (not opens or next_key in STARTERS)
    if re.fullmatch("[A-Z]", word) and re.fullmatch("[A-Z]", following) and after == ".":
        return False  # A. A. Milne
    if key in _EITHER or re.fullmatch(r"[A-Z](?:\.[A-Z])*", word):
        return not lower and next_key in STARTERS
    if key.isdigit() and text[start : match.start()].strip() == word and len(word) <= 2:
        return False  # the number of a list item
    if lower:
        is_word = len(word) > 1 and word.isalpha() and word.islower() and not _VOWELS.isdisjoint(word)
        return is_word and not is_quoted  # a chat without capitals; an unknown abbreviation has no vowel
    return True
