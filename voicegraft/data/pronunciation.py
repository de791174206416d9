"""Pronunciations for training: units, a lexicon, and where the words lie in a phone string.

A *unit* is a phone of the CMU/flite set or a boundary mark. Every utterance is ``^`` (the silence before), then the
phones of each word followed by one boundary: ``|`` inside a phrase, or the punctuation that stands there (``, . ? !``).
A boundary lasts as long as the silence there: zero frames where there is none. When it speaks, the model spells these
units itself; nothing in this file is needed then.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text

PHONES = (
    *(
        "aa",
        "ae",
        "ah",
        "ao",
        "aw",
        "ax",
        "ay",
        "b",
        "ch",
        "d",
        "dh",
        "eh",
        "er",
        "ey",
        "f",
        "g",
        "hh",
        "ih",
        "iy",
        "jh",
    ),
    *("k", "l", "m", "n", "ng", "ow", "oy", "p", "r", "s", "sh", "t", "th", "uh", "uw", "v", "w", "y", "z", "zh"),
)
START = "^"
BOUNDARIES = ("|", ",", ".", "?", "!")
UNITS = (*PHONES, START, *BOUNDARIES)

_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
_MARK_OF = {",": ",", ";": ",", ":": ",", "—": ",", "–": ",", ".": ".", "?": "?", "!": "!", "…": "."}
_WEIGHT = {"|": 0, ",": 1, ".": 2, "!": 3, "?": 4}


@dataclass(frozen=True)
class Word:
    """One word of a spoken-form text."""

    written: str  # as it stands in the text, with what follows up to the next word
    letters: str  # the word alone: letters and inner apostrophes, capitals kept
    boundary: str  # one of BOUNDARIES: the mark that follows it

    @property
    def key(self) -> str:
        """The word as the lexicon lists it."""
        return self.letters.lower()


def words_of(text: str) -> list[Word]:
    """The words of a spoken-form text with their boundaries; the last boundary is at least a full stop."""
    text = text.replace("’", "'")
    matches = list(_WORD.finditer(text))
    words = []
    for match, following in zip(matches, [*matches[1:], None], strict=False):
        end = following.start() if following else len(text)
        between = text[match.end() : end].replace("--", "—")
        marks = [_MARK_OF[c] for c in between if c in _MARK_OF]
        mark = max(marks, key=_WEIGHT.__getitem__, default="|")
        if following is None and mark in "|,":
            mark = "."
        words.append(Word(text[match.start() : end].strip(), match.group(), mark))
    return words


class Lexicon:
    """Word -> phones. Made by flite (its lexicon and letter-to-sound rules), refined by how words sound in context."""

    def __init__(self, entries: dict[str, tuple[str, ...]]):
        self.entries = entries

    def __contains__(self, word: str) -> bool:
        return word in self.entries

    def units(self, text: str) -> list[str] | None:
        """The unit string of a spoken-form text, or None when a word is not in the lexicon."""
        words = words_of(text)
        units = [START]
        for word, next_word in zip(words, [*words[1:], None], strict=False):
            phones = self.entries.get(word.key)
            if phones is None:
                return None
            following = self.entries.get(next_word.key) if next_word and word.boundary == "|" else None
            if word.key == "the" and following and following[0] in _VOWELS:
                phones = ("dh", "iy")
            units += [*phones, word.boundary]
        return units if words else None

    def save(self, path: Path) -> None:
        write_text(path, json.dumps({w: " ".join(p) for w, p in sorted(self.entries.items())}, indent=0))

    @staticmethod
    def load(path: Path) -> Lexicon:
        return Lexicon({w: tuple(p.split()) for w, p in json.loads(path.read_text()).items()})


_VOWELS = frozenset(["aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw"])


def read_dictionary(path: Path) -> dict[str, tuple[str, ...]]:
    """Word -> phones of a pronouncing dictionary in CMUdict's format, the first pronunciation of each word.

    Stress is left out, but for one thing: an unstressed AH is the set's ``ax``.

    Raises:
        VoicegraftError: no such file, or lines with other phones.
    """
    entries: dict[str, tuple[str, ...]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VoicegraftError(f"cannot read the dictionary {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        word, *phones = line.partition("#")[0].split() or [""]
        if not phones or not _WORD.fullmatch(word):
            continue  # comments, and further pronunciations, as read(2)
        plain = tuple("ax" if phone == "AH0" else phone.rstrip("012").lower() for phone in phones)
        if not set(plain) <= set(PHONES):
            raise VoicegraftError(
                f"{path}:{number}: expected a word and phones of the CMU set (HELLO HH AH0 L OW1), got {line.strip()!r}"
            )
        entries.setdefault(word.lower(), plain)
    return entries


def flite_lexicon(words: Iterable[str], batch: int = 48) -> Lexicon:
    """Asks flite for each word's phones, many words a call (they come back separated by pauses)."""
    entries: dict[str, tuple[str, ...]] = {}

    def ask(some: Sequence[str]) -> None:
        spoken = flite(". ".join(some) + ".", "kal", ["-ps"])
        groups = [tuple(g.split()) for g in re.split(r"\bpau\b", spoken) if g.strip()]
        if len(groups) == len(some):
            entries.update(zip(some, groups, strict=True))
        elif len(some) > 1:  # an abbreviation swallowed its full stop: halve until it is alone
            ask(some[: len(some) // 2])
            ask(some[len(some) // 2 :])

    todo = sorted(set(words))
    for start in range(0, len(todo), batch):
        ask(todo[start : start + batch])
    return Lexicon({w: p for w, p in entries.items() if p and set(p) <= set(PHONES)})


def flite(text: str, voice: str, options: Sequence[str], out: str = "none") -> str:
    """Runs flite (Black & Lenzo 2001) on one text and returns what it prints."""
    try:
        done = subprocess.run(
            ["flite", "-voice", voice, *options, "-t", text, "-o", out], capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        raise VoicegraftError(
            "flite is not installed: it reads the synthetic pre-training speech and spells the training lexicon "
            "(Debian and Ubuntu: apt-get install flite)"
        ) from error
    except subprocess.CalledProcessError as error:
        raise VoicegraftError(f"flite failed on {text[:60]!r}: {error.stderr.strip()[:200]}") from error
    return done.stdout


def place_words(
    text: str, lexicon: Lexicon, segments: Sequence[tuple[str, float]]
) -> tuple[tuple[str, ...], tuple[float, ...]] | None:
    """Timed flite segments ``(phone or pau, end_sec)`` -> (units, end of each unit in seconds).

    Flite prints no word boundaries, and changes words in context ("a" is ey alone and ax in a phrase), so its phones are
    matched to the lexicon's by edit distance. None when they differ by more than a third, which means other words.
    """
    words = words_of(text)
    expected: list[tuple[str, int]] = []
    for i, word in enumerate(words):
        if word.key not in lexicon:
            return None
        expected += [(p, i) for p in lexicon.entries[word.key]]
    phones = [(p, end) for p, end in segments if p != "pau"]
    owners = _match([p for p, _ in phones], expected)
    if owners is None:
        return None
    pause_end = {}  # end of the pause that follows phone number n (-1: before the first)
    n = -1
    for phone, end in segments:
        if phone == "pau":
            pause_end[n] = end
        else:
            n += 1
    units, ends = [START], [pause_end.get(-1, 0.0)]
    for n, (phone, end) in enumerate(phones):
        units.append(phone)
        ends.append(end)
        if n + 1 == len(phones) or owners[n + 1] != owners[n]:
            units.append(words[owners[n]].boundary)
            ends.append(pause_end.get(n, end))
    if len(set(owners)) != len(words):
        return None  # a word without a phone of its own
    return tuple(units), tuple(ends)


def _match(actual: Sequence[str], expected: Sequence[tuple[str, int]]) -> list[int] | None:
    """Owner word of each actual phone along the cheapest edit path (non-decreasing), or None when too far apart."""
    rows, columns = len(actual) + 1, len(expected) + 1
    cost = [[0] * columns for _ in range(rows)]
    for j in range(columns):
        cost[0][j] = j
    for i in range(1, rows):
        cost[i][0] = i
        for j in range(1, columns):
            same = actual[i - 1] == expected[j - 1][0]
            cost[i][j] = min(cost[i - 1][j - 1] + (not same), cost[i - 1][j] + 1, cost[i][j - 1] + 1)
    if not expected or cost[-1][-1] > len(expected) / 3:
        return None
    owners = [0] * len(actual)
    i, j = len(actual), len(expected)
    while i > 0:
        same = j > 0 and actual[i - 1] == expected[j - 1][0]
        if j > 0 and cost[i][j] == cost[i - 1][j - 1] + (not same):
            owners[i - 1] = expected[j - 1][1]
            i, j = i - 1, j - 1
        elif cost[i][j] == cost[i - 1][j] + 1:
            owners[i - 1] = expected[max(j - 1, 0)][1]
            i -= 1
        else:
            j -= 1
    return owners


def phones_by_word(units: Sequence[str]) -> list[tuple[str, ...]]:
    """``^``, then phones and a boundary per word -> the phones of each word."""
    words: list[tuple[str, ...]] = []
    phones: list[str] = []
    for unit in units[1:]:
        if unit in BOUNDARIES:
            words.append(tuple(phones))
            phones = []
        else:
            phones.append(unit)
    return words


def refine_with_context(lexicon: Lexicon, utterances: Iterable[tuple[str, tuple[str, ...]]]) -> Lexicon:
    """Replaces a word's isolated pronunciation by the one most often heard in the aligned ``(text, units)`` pairs."""
    heard: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for text, units in utterances:
        for word, phones in zip(words_of(text), phones_by_word(units), strict=True):
            heard[word.key][phones] += 1
    return Lexicon({w: heard[w].most_common(1)[0][0] if heard[w] else p for w, p in lexicon.entries.items()})
