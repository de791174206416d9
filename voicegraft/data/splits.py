"""What is held back from training. One rule: a hash of the words decides, for clips, sentences, questions and book pieces.

The same words of a collection are on the same side on every machine, in any order. A collection that holds something back
itself keeps its own splits, and a small one holds back a larger share: the same words may lie on another side there, but for
collections that are prepared together: what one of them holds back, none trains on.
"""

from __future__ import annotations

import bisect
import hashlib
import re
import unicodedata
from collections.abc import Iterable

HELD_BACK = 0.02  # share of the texts
SMALLEST = 2.0**-48  # share that holds back what any share above 0 does
_LEAST = 20  # texts that are held back at least, or a tenth where there are few
_MANY = 10 * _LEAST  # smallest hashes that are kept: memory does not grow with the corpus
_NAME = re.compile(r"(train|training|dev|val|valid|validation|test|eval)(?![a-z])")
_SPLIT_OF = {"train": "train", "training": "train", "test": "test", "eval": "test"}


def split_of(name: str) -> str:
    """train, val or test for a split or folder called so ("dev-clean", "validation"); "" for any other name."""
    found = _NAME.match(name.lower())
    return _SPLIT_OF.get(found[1], "val") if found else ""


def hash_share(key: str) -> float:
    """A number in [0, 1) that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48


def text_key(text: str | None) -> str:
    """The letters and digits of a text: the same for the same words, however they are written."""
    return "".join(char for char in unicodedata.normalize("NFC", text or "").casefold() if char.isalnum())


class Splits:
    """Which texts of a collection are held back.

    Those of ``val`` and ``test`` where it has such splits, else ``share`` of the texts by hash; of a share above 0 twenty texts
    at least, or a tenth of fewer than 200.
    """

    def __init__(self, share: float = HELD_BACK):
        self.share = share
        self.own = False  # the collection itself holds something back
        self._smallest: list[float] = []  # different hashes
        self._held: set[float] | None = None  # what collections of several hold back themselves
        self._parts: list[Splits] = []  # all of several

    @staticmethod
    def over(texts: Iterable[str], share: float = HELD_BACK) -> Splits:
        """The rule for texts that have no splits of their own."""
        splits = Splits(share)
        for text in texts:
            splits.see(text)
        return splits

    def part(self) -> Splits:
        """The splits of one of several collections that are prepared together; all parts are to be seen before a question."""
        part = Splits(self.share)
        self._held = set() if self._held is None else self._held
        self._parts.append(part)
        part._smallest, part._held, part._parts = self._smallest, self._held, self._parts
        return part

    def see(self, text: str | None, split: str = "") -> None:
        """Counts one text of the collection; all are to be seen before the first question."""
        value = hash_share(text_key(text))
        if split in ("val", "test"):
            self.own = True
            if self._held is not None:
                self._held.add(value)
        if len(self._smallest) < _MANY or value < self._smallest[-1]:
            place = bisect.bisect_left(self._smallest, value)
            if self._smallest[place : place + 1] != [value]:
                self._smallest.insert(place, value)
                del self._smallest[_MANY:]

    def holds_back(self, text: str | None) -> bool:
        """Whether the hash holds a text back."""
        value, num_texts = hash_share(text_key(text)), len(self._smallest)
        least = max(1, num_texts // 10) if num_texts > 1 and self.share else 0
        return value < self.share or (least > 0 and value <= self._smallest[least - 1])

    def __call__(self, text: str | None, split: str = "") -> str:
        """train, val or test, for a text that the collection puts into ``split``."""
        if self.own and split in ("val", "test"):
            return split
        by_hash = not self.own or not all(part.own for part in self._parts)
        if (by_hash and self.holds_back(text)) or (self._held and hash_share(text_key(text)) in self._held):
            return "val"
        return split if self.own and split else "train"
