"""Pronunciations for training: a lexicon."""

from __future__ import annotations

import gzip
import json
import zlib
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

    def pronunciations(self, text: str) -> dict[int, tuple[str, ...]]:
        """The phones of those words of a spoken-form text that are known, by number.

        A heteronym is said as its sentence asks for, as in speaking; capitals are read letter by letter.
        """
        words, found = words_of(text), {}
        for number, (word, next_word) in enumerate(zip(words, [*words[1:], None], strict=False)):
            if len(word.letters) > 1 and word.letters.isalpha() and word.letters.isupper():
                names = [LETTER_NAMES.get(letter) or self.entries.get(letter) for letter in word.key]
                if all(names):
                    found[number] = tuple(phone for name in names if name for phone in name)
            elif word.key in self.entries:
                found[number] = self.entries[word.key]
                following = self.entries.get(next_word.key) if next_word and word.boundary == "|" else None
                if word.key == "the" and following and following[0] in _VOWELS:
                    found[number] = ("dh", "iy")
        return found | {number: tuple(phones) for number, phones in pronunciations(text).items()}

    def units(self, text: str) -> list[str] | None:
        """The unit string of a spoken-form text, or None when a word is not in the lexicon."""
        words, known = words_of(text), self.pronunciations(text)
        if not words or len(known) < len(words):
            return None
        return [START, *(unit for number, word in enumerate(words) for unit in (*known[number], word.boundary))]

    def save(self, path: Path) -> None:
        """As a JSON object, or, where the name ends in ``.gz``, as compressed lines."""
        lines = {word: " ".join(phones) for word, phones in sorted(self.entries.items())}
        if path.suffix == ".gz":
            text = "".join(f"{word} {phones}\n" for word, phones in lines.items())
            path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
        else:
            write_text(path, json.dumps(lines, indent=0))

    @staticmethod
    def load(path: Path) -> Lexicon:
        """
        Raises:
            VoicegraftError: it is not there or damaged.
        """
        try:
            if path.suffix == ".gz":
                with gzip.open(path) as file:
                    unpacked = file.read(MOST_BYTES + 1)
                if len(unpacked) > MOST_BYTES:
                    raise ValueError(f"it holds more than {MOST_BYTES} bytes")
                pairs = dict(line.split(" ", 1) for line in unpacked.decode().splitlines())
            else:
                pairs = json.loads(path.read_text(encoding="utf-8"))
            entries = {word: tuple(phones.split()) for word, phones in pairs.items()}
            for word, phones in entries.items():
                if not phones or not _PHONES.issuperset(phones):
                    raise ValueError(f"it says {word!r:.40} as {' '.join(phones)!r:.40}, which are no phones")
            return Lexicon(entries)
        except (OSError, EOFError, ValueError, AttributeError, zlib.error) as error:
            raise VoicegraftError(f"cannot read the lexicon {path}: {error}; get it anew") from error


# In running text "a" is the article, and "q" stands alone in no lexicon of words.
LETTER_NAMES = {"a": ("ey",), "q": ("k", "y", "uw")}
MOST_BYTES = 32_000_000  # of a lexicon that is unpacked
_PHONES = frozenset(PHONES)
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
