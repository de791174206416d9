"""Training sequences of the speech expert: what stands at each position, and what is to be predicted there.

    text ids <voice> | w1 hh ax l ow , | w2 w er l d . | SAY c c c ADVANCE c c c ADVANCE ...
    the sentence       thinks, word by word              speaks, unit by unit

Text stands in the backbone's own tokens: the whole sentence first, for context, and then each word again (``w1``) right
before its pronunciation. When all words are spelt the model speaks: each unit's semantic codes follow one another until
ADVANCE begins the next unit, and every position is told which unit is being said, which comes next and for how many frames
this one has lasted. So words and units come in order, each once, and the last unit's ADVANCE is the end: alignment,
progress and the end hold by construction. The units that are spoken are ``^`` (the silence before) and those spelt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voicegraft.data.pronunciation import BOUNDARIES, START
from voicegraft.tokenizers.vocabulary import ADVANCE, SAY, SpeechVocabulary

IGNORE = -100  # target of a position that is not trained
MAX_ELAPSED = 24  # frames of a unit that are told apart


@dataclass(frozen=True)
class SpeechSequence:
    """Arrays of one length ``[L]``."""

    text: np.ndarray  # backbone id, or -1 at speech positions
    token: np.ndarray  # speech id, or -1 at text positions
    now: np.ndarray  # index of the unit being said plus one, 0 outside speech
    following: np.ndarray  # index of the unit after it plus one, 0 if there is none
    elapsed: np.ndarray  # frames that the unit has lasted, at most MAX_ELAPSED
    target: np.ndarray  # speech id that follows, or IGNORE

    def __len__(self) -> int:
        return len(self.text)


def speech_sequence(
    vocabulary: SpeechVocabulary,
    sentence: Sequence[int],
    words: Sequence[Sequence[int]],
    voice: str,
    units: Sequence[str],
    codes: np.ndarray | None = None,
    counts: np.ndarray | None = None,
) -> SpeechSequence:
    """Builds the sequence of one utterance.

    Args:
        sentence: backbone ids of the whole sentence; words: of each word.
        units: ``^``, then for each word its phones and one boundary.
        codes: semantic codes ``[T]``; None leaves speaking out (a sequence that only trains pronunciation).
        counts: frames of each unit ``[num_units]``, summing to T.
    """
    if units[0] != START or sum(u in BOUNDARIES for u in units) != len(words):
        raise ValueError(f"expected ^ and one boundary for each of {len(words)} words, got units {' '.join(units)}")
    index = [vocabulary.unit_index[u] for u in units]
    column = _Columns()
    column.text(sentence)
    column.speech(vocabulary.voice_id(voice), IGNORE)
    spelt = iter(zip(units[1:], index[1:], strict=True))
    for word in words:
        column.text(word)
        for unit, number in spelt:
            column.target[-1] = vocabulary.first_unit + number
            column.speech(vocabulary.first_unit + number, IGNORE)
            if unit in BOUNDARIES:
                break
    if codes is not None and counts is not None:
        frame = 0
        for n, count in enumerate(counts):
            following = index[n + 1] + 1 if n + 1 < len(index) else 0
            said = [vocabulary.first_code + int(c) for c in codes[frame : frame + count]]
            frame += int(count)
            for elapsed, (token, target) in enumerate(
                zip([ADVANCE if n else SAY, *said], [*said, ADVANCE], strict=True)
            ):
                column.speech(token, target, index[n] + 1, following, min(elapsed, MAX_ELAPSED))
    return column.sequence()


class _Columns:
    """The fields of a sequence while it grows."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, int, int]] = []
        self.target: list[int] = []

    def text(self, ids: Sequence[int]) -> None:
        self.rows += [(i, -1, 0, 0, 0) for i in ids]
        self.target += [IGNORE] * len(ids)

    def speech(self, token: int, target: int, now: int = 0, following: int = 0, elapsed: int = 0) -> None:
        self.rows.append((-1, token, now, following, elapsed))
        self.target.append(target)

    def sequence(self) -> SpeechSequence:
        columns = np.asarray(self.rows, dtype=np.int32).T
        return SpeechSequence(*columns, target=np.asarray(self.target, dtype=np.int32))
