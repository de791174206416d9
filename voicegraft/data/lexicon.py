"""Pronunciations for training: a lexicon."""

from __future__ import annotations

import json
from pathlib import Path

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.text_input import file_lines
from voicegraft.text.english.heteronyms import pronunciations
from voicegraft.text.units import PHONES, START, WORD, words_of


class Lexicon:
    """Word -> phones."""

    def __init__(self, entries: dict[str, tuple[str, ...]]):
        self.entries = entries

    def __contains__(self, word: str) -> bool:
        return word in self.entries

    def units(self, text: str) -> list[str] | None:
        """The unit string of a spoken-form text, or None when a word is not in the lexicon.

        A heteronym is said as its sentence asks for, as in speaking.
        """
        words, chosen = words_of(text), pronunciations(text)
        units = [START]
        for number, (word, next_word) in enumerate(zip(words, [*words[1:], None], strict=False)):
            if word.key not in self.entries:
                return None
            phones = chosen.get(number, self.entries[word.key])
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
    for number, line in enumerate(file_lines(path), start=1):
        word, *phones = line.partition("#")[0].split() or [""]
        if not phones or not WORD.fullmatch(word):
            continue  # comments, and further pronunciations, as read(2)
        known = tuple("ax" if phone == "AH0" else phone.rstrip("012").lower() for phone in phones)
        if not set(known) <= set(PHONES):
            raise VoicegraftError(
                f"{path}:{number}: expected a word and phones of the CMU set (HELLO HH AH0 L OW1), got {line.strip()!r}"
            )
        entries.setdefault(word.lower(), known)
    return entries
