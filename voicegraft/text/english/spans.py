"""Finds for each spoken word the written text that it came from: `$5.20` for "five dollars twenty cents"."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from voicegraft.text.english.characters import fold
from voicegraft.text.english.electronic import DIGITS
from voicegraft.text.english.words import word_set
from voicegraft.text.units import WORD

_CHUNK = re.compile(r"\S+")
_EDGES = re.compile(r"^[\"'“”‘’«»(\[{<*_]+|[\"'“”‘’«»)\]}>*_.,:;!?…]+$")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_PART = re.compile(r"[^-–—/]+")
_WINDOW_WORDS = 120  # spoken words that are aligned at once; bounds the time on text without an end
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
_DIGITS = {
    **{word: str(digit) for digit, word in enumerate(DIGITS)},
    **{word: str(digit) for digit, word in enumerate(_TENS, start=2)},
    **{word: str(digit) for digit, word in enumerate(_ORDINALS, start=1)},
}
_NUMBERS = word_set("numbers")
# Costs of an alignment.
_UNLIKE, _ALIKE, _NUMBER = 2.2, 0.6, 0.1  # a spoken word that the written one does not spell
_AGAIN_KNOWN, _AGAIN = 2.5, 0.4  # one more word for a written word that is spoken as it stands, or is not
_SILENT, _SILENT_SYMBOL = 2.0, 0.3  # a written word without a spoken one


@dataclass(frozen=True)
class _Token:
    start: int
    end: int
    key: str  # its letters, small
    is_word: bool  # letters only
    digits: str


def word_spans(written: str, spoken: str) -> list[tuple[int, int]]:
    """For each word of `spoken` the slice of `written` that it says, as (start, end).

    Starts and ends never go back. Several words may share a span, and a span may hold several written words where they were
    said in another order. Where nothing is written, every span is (0, 0).
    """
    words = [match.group().lower() for match in WORD.finditer(spoken)]
    tokens = list(_tokens(written))
    if not tokens or not words:
        return [(0, 0)] * len(words)
    owners: list[int] = []
    while len(owners) < len(words):
        first = owners[-1] if owners else 0
        window = words[len(owners) : len(owners) + _WINDOW_WORDS]
        is_last = len(owners) + len(window) == len(words)
        near = tokens[first:] if is_last else tokens[first : first + 2 * _WINDOW_WORDS]
        found = _align(near[: 2 * _WINDOW_WORDS], window, bool(owners), is_last)
        keep = len(found) if is_last else len(found) // 2  # the rest is found again, in sight of what follows
        owners += [first + owner for owner in found[:keep]]
    return _cover(tokens, owners)


def _tokens(written: str) -> list[_Token]:
    """Words, and numbers and symbols with all that is glued to them."""
    tokens: list[_Token] = []
    for chunk in _CHUNK.finditer(written):
        text, start = chunk.group(), chunk.start()
        parts = list(_PART.finditer(text))
        if all(_WORD.fullmatch(_EDGES.sub("", part.group())) or not part.group().strip("-") for part in parts):
            pieces = [(start + m.start(), start + m.end()) for m in _WORD.finditer(text)]
        elif parts and all(
            re.search(r"\d", p.group()) or _WORD.fullmatch(_EDGES.sub("", p.group())) for p in parts[1:]
        ):
            pieces = _glued(text, start, parts)
        else:
            pieces = [(start, chunk.end())]
        for begin, end in pieces:
            piece = written[begin:end]
            lead = _EDGES.match(piece)
            bare = _EDGES.sub("", piece)
            begin += lead.end() if lead and bare and lead.group()[0] not in ".,:;!?)]}" else 0
            key = fold(bare, lambda run: None)
            digits = "".join(c for c in key if c.isdigit())
            letters = "".join(c for c in key if c.isalpha() or c == "'").lower()
            is_scale = letters in ("hundred", "thousand", "million", "billion", "trillion")
            if (
                tokens and is_scale and written[tokens[-1].start] in "$£€¥₹"
            ):  # five million dollars: the other way round
                tokens[-1] = replace(tokens[-1], end=begin + len(bare))
            elif any(c.isalnum() or c in "&%@+=$#^°£€¥<>/\\" for c in key):
                tokens.append(_Token(begin, begin + len(bare), letters, key.isalpha(), digits))
    return tokens


def _glued(text: str, start: int, parts: list[re.Match[str]]) -> list[tuple[int, int]]:
    """Parts around hyphens; what has no word of its own stays with its neighbours (555-1234, but 20 | year | old)."""
    pieces: list[tuple[int, int]] = []
    was_word = True
    for part in parts:
        is_word = bool(re.fullmatch(r"[^\W\d_]{2,}\W*", part.group()))
        if pieces and not is_word and not was_word:
            pieces[-1] = (pieces[-1][0], start + part.end())
        else:
            pieces.append((start + part.start(), start + part.end()))
        was_word = is_word
    if pieces:
        pieces[0] = (start, pieces[0][1])
        pieces[-1] = (pieces[-1][0], start + len(text))
    return pieces


def _align(tokens: list[_Token], words: list[str], is_inside: bool, is_last: bool) -> list[int]:
    """The cheapest owner of each word, non-decreasing.

    Args:
        is_inside: the first token may have words before these.
        is_last: nothing follows, so tokens that are left over are silent.
    """
    known = set(words)
    again = [_AGAIN_KNOWN if token.is_word and token.key in known else _AGAIN for token in tokens]
    silent = [0.0]
    for token in tokens:
        silent.append(silent[-1] + (_SILENT if token.is_word or token.digits else _SILENT_SYMBOL))
    best = [0.0 if is_inside else float("inf")] + [float("inf")] * (len(tokens) - 1)
    back: list[list[int]] = []
    for place, word in enumerate(words):
        row, came = [], []
        cheapest, source = (0.0, -1) if place == 0 else (float("inf"), 0)  # of the tokens before, plus their silence
        for index, token in enumerate(tokens):
            stay = best[index] + again[index]
            step = cheapest + silent[index]
            cost, origin = (stay, index) if stay <= step else (step, source)
            row.append(cost + _price(token, word))
            came.append(origin)
            ahead = best[index] - silent[index + 1]
            if ahead < cheapest:
                cheapest, source = ahead, index
        best = row
        back.append(came)
    ends = [cost + (silent[-1] - silent[index + 1] if is_last else 0.0) for index, cost in enumerate(best)]
    owner = min(range(len(ends)), key=ends.__getitem__)
    owners = []
    for came in reversed(back):
        owners.append(owner)
        owner = max(came[owner], 0)
    return owners[::-1]


def _price(token: _Token, word: str) -> float:
    if token.key == word:
        return 0.0
    if token.digits:
        is_said = word in _NUMBERS or _DIGITS.get(word, "no") in token.digits or word in token.key
        return _NUMBER if is_said else _ALIKE
    if not token.is_word:
        return _NUMBER if word in token.key else _ALIKE
    if word in token.key and len(word) > 1:  # camelCase
        return _NUMBER
    return _ALIKE if word[0] == token.key[:1] else _UNLIKE


def _cover(tokens: list[_Token], owners: list[int]) -> list[tuple[int, int]]:
    """Spans of the owners; a silent written word joins the number before it ($5 million: five million dollars)."""
    ends = {}
    for owner, following in zip(owners, [*owners[1:], len(tokens)], strict=True):
        end = owner
        while end + 1 < following and tokens[owner].digits and tokens[end + 1].is_word:
            end += 1
        ends[owner] = tokens[end].end
    return [(tokens[owner].start, ends[owner]) for owner in owners]
