"""Training sequences of the speech expert: what stands at each position, and what is to be predicted there.

    the sentence <voice> | w1 . hh . ax . l . ow . | w2 . w . er ... | SAY c c c ADVANCE c c c ADVANCE ...
    for context            thinks, letter by letter                    speaks, unit by unit

Text stands in the backbone's own tokens: the whole sentence first, and then each word again (``w1``) right before it is
spelt. Spelling and speaking work alike. Each letter's phones follow one another until ADVANCE (``.`` above) goes on to the next
letter; each unit's semantic codes follow one another until ADVANCE begins the next unit. Every position is told where it
is: the letter with its neighbours, or the unit and the next one, and how many phones or frames it has had so far. So letters
and units come in order, each once, and the last unit's ADVANCE is the end: alignment, progress and the end hold by
construction. The units that are spoken are ``^`` (the silence before), and each word's phones and boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voicegraft.data.spelling import WINDOW, windows
from voicegraft.tokenizers.vocabulary import ADVANCE, SAY, SpeechVocabulary

IGNORE = -100  # target of a position that is not trained
MAX_ELAPSED = 24  # frames of a unit that are told apart


@dataclass(frozen=True)
class WordSpelling:
    """A word of the text, and how it is pronounced."""

    ids: Sequence[int]  # backbone tokens of the word as it is written
    letters: str
    groups: Sequence[Sequence[str]]  # phones of each letter


@dataclass(frozen=True)
class SpeechSequence:
    """Arrays of one length ``[L]``."""

    text: np.ndarray  # backbone id, or -1 at speech positions
    token: np.ndarray  # speech id, or -1 at text positions
    now: np.ndarray  # index of the unit being said plus one, 0 outside speech
    following: np.ndarray  # index of the unit after it plus one, 0 if there is none
    elapsed: np.ndarray  # phones of the letter, or frames of the unit, so far; at most MAX_ELAPSED
    letters: np.ndarray  # [L, WINDOW] rows of the letter being spelt and its neighbours, 0 outside spelling
    target: np.ndarray  # speech id that follows, or IGNORE

    def __len__(self) -> int:
        return len(self.text)


NO_LETTERS = (0,) * WINDOW


def speech_sequence(
    vocabulary: SpeechVocabulary,
    sentence: Sequence[int],
    words: Sequence[WordSpelling],
    voice: str,
    units: Sequence[str],
    codes: np.ndarray | None = None,
    counts: np.ndarray | None = None,
) -> SpeechSequence:
    """Builds the sequence of one utterance.

    Args:
        sentence: backbone ids of the whole sentence.
        units: ``^``, then for each word its phones and one boundary.
        codes: semantic codes ``[T]``; None leaves speaking out (a sequence that only trains pronunciation).
        counts: frames of each unit ``[num_units]``, summing to T.
    """
    column = _Columns()
    column.text(sentence)
    column.speech(vocabulary.voice_id(voice), IGNORE)
    for word in words:
        column.text(word.ids)
        for window, group in zip(windows(word.letters), word.groups, strict=True):
            made = [vocabulary.first_unit + vocabulary.unit_index[phone] for phone in group]
            for elapsed, (token, target) in enumerate(zip([ADVANCE, *made], [*made, ADVANCE], strict=True)):
                column.speech(token, target, elapsed=min(elapsed, MAX_ELAPSED), letters=window)
    if codes is not None and counts is not None:
        index = [vocabulary.unit_index[unit] + 1 for unit in units]
        frame = 0
        for n, (now, following, count) in enumerate(zip(index, [*index[1:], 0], counts, strict=True)):
            said = [vocabulary.first_code + int(c) for c in codes[frame : frame + count]]
            frame += int(count)
            begin = ADVANCE if n else SAY
            for elapsed, (token, target) in enumerate(zip([begin, *said], [*said, ADVANCE], strict=True)):
                column.speech(token, target, now, following, min(elapsed, MAX_ELAPSED))
    return column.sequence()


class _Columns:
    """The fields of a sequence while it grows."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, int, int, int]] = []
        self.letters: list[Sequence[int]] = []

    def text(self, ids: Sequence[int]) -> None:
        self.rows += [(i, -1, 0, 0, 0, IGNORE) for i in ids]
        self.letters += [NO_LETTERS] * len(ids)

    def speech(
        self,
        token: int,
        target: int,
        now: int = 0,
        following: int = 0,
        elapsed: int = 0,
        letters: Sequence[int] = NO_LETTERS,
    ) -> None:
        self.rows.append((-1, token, now, following, elapsed, target))
        self.letters.append(letters)

    def sequence(self) -> SpeechSequence:
        text, token, now, following, elapsed, target = np.asarray(self.rows, dtype=np.int32).T
        letters = np.asarray(self.letters, dtype=np.int16)
        return SpeechSequence(text, token, now, following, elapsed, letters, target)
