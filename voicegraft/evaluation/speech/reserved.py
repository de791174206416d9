"""What evaluations keep for themselves: texts and voices that nothing is trained on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from pathlib import Path

from voicegraft.data.splits import text_key
from voicegraft.evaluation.listening.items import questions, sentences, spoken
from voicegraft.evaluation.speech.robustness_suite import load_suite

TEST_VOICES = ("af_nova", "am_fenrir", "bf_emma", "bm_george")  # of Kokoro
# The Harvard sentences (IEEE Recommended Practice for Speech Quality Measurements, 1969), lists 1 to 36, by `_digest`.
HARVARD_FILE = Path(__file__).parent / "data" / "harvard-001-360.txt"
_TELLING_WORDS = 4  # of fewer a sentence, such as "Great!", stands in many a text
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")


class ReservedTexts:
    """The robustness suite, the Harvard sentences, what listeners are asked, and whatever else is named.

    No sentence of theirs is to be learnt.
    """

    def __init__(self, more: Collection[str] = ()) -> None:
        """
        Args:
            more: texts of other evaluations.
        """
        said = [
            *(item.text for item in load_suite()),
            *(i.text for i in (*questions().values(), *sentences().values())),
            *spoken().values(),
        ]
        self._digests = {*HARVARD_FILE.read_text(encoding="ascii").split()}
        self._digests |= {_digest(text) for text in (*more, *said) if text_key(text)}

    def __contains__(self, text: str) -> bool:
        """Whether a text, or a sentence of some words in it, says the words of one that is reserved."""
        parts = (part for part in _SENTENCE_END.split(text) if len(part.split()) >= _TELLING_WORDS)
        return any(_digest(part) in self._digests for part in (text, *parts))


def _digest(text: str) -> str:
    """The same for the same words, however they are written."""
    return hashlib.sha256(text_key(text).encode()).hexdigest()[:12]
