"""Pronunciations for training: a lexicon, and where the words lie in a phone string."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.text.units import PHONES, START, WORD, phones_by_word, words_of


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
        if not phones or not WORD.fullmatch(word):
            continue  # comments, and further pronunciations, as read(2)
        plain = tuple("ax" if phone == "AH0" else phone.rstrip("012").lower() for phone in phones)
        if not set(plain) <= set(PHONES):
            raise VoicegraftError(
                f"{path}:{number}: expected a word and phones of the CMU set (HELLO HH AH0 L OW1), got {line.strip()!r}"
            )
        entries.setdefault(word.lower(), plain)
    return entries


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


def refine_with_context(lexicon: Lexicon, utterances: Iterable[tuple[str, tuple[str, ...]]]) -> Lexicon:
    """Replaces a word's isolated pronunciation by the one most often heard in the aligned ``(text, units)`` pairs."""
    heard: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for text, units in utterances:
        for word, phones in zip(words_of(text), phones_by_word(units), strict=True):
            heard[word.key][phones] += 1
    return Lexicon({w: heard[w].most_common(1)[0][0] if heard[w] else p for w, p in lexicon.entries.items()})
