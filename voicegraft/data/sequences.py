"""Training sequences of the speech expert: what stands at each position, and what is to be predicted there.

    text ids | <voice> u1 u2 ... un | SAY c c ADVANCE c c c ADVANCE ...
               thinks the units       speaks unit by unit

The text is in the backbone's own tokens. From the voice's start token on, positions hold speech tokens. The model first
spells the pronunciation, then speaks it: each unit's semantic codes follow one another until ADVANCE begins the next
unit. While it speaks, every position is told which unit is being said, which comes next and for how many frames this
one has lasted; so alignment, progress and the end hold by construction (the last unit's ADVANCE is the end).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    text_ids: Sequence[int],
    voice: str,
    units: Sequence[str],
    codes: np.ndarray | None = None,
    counts: np.ndarray | None = None,
) -> SpeechSequence:
    """Builds the sequence of one utterance.

    Args:
        codes: semantic codes ``[T]``; None leaves speaking out (a sequence that only trains pronunciation).
        counts: frames of each unit ``[num_units]``, summing to T.
    """
    index = [vocabulary.unit_index[u] for u in units]
    tokens = [vocabulary.voice_id(voice), *(vocabulary.first_unit + i for i in index)]
    now, following, elapsed = [0] * len(tokens), [0] * len(tokens), [0] * len(tokens)
    targets = [*tokens[1:], SAY]
    if codes is not None and counts is not None:
        frame = 0
        for n, count in enumerate(counts):
            upcoming = index[n + 1] + 1 if n + 1 < len(index) else 0
            said = [vocabulary.first_code + int(c) for c in codes[frame : frame + count]]
            frame += int(count)
            tokens += [ADVANCE if n else SAY, *said]
            targets += [*said, ADVANCE]
            now += [index[n] + 1] * (len(said) + 1)
            following += [upcoming] * (len(said) + 1)
            elapsed += [min(i, MAX_ELAPSED) for i in range(len(said) + 1)]
    num_text, num_speech = len(text_ids), len(tokens)

    def column(lead: int, values: Sequence[int]) -> np.ndarray:
        return np.asarray([lead] * num_text + list(values), dtype=np.int32)

    return SpeechSequence(
        text=np.asarray([*text_ids, *[-1] * num_speech], dtype=np.int32),
        token=column(-1, tokens),
        now=column(0, now),
        following=column(0, following),
        elapsed=column(0, elapsed),
        target=column(IGNORE, targets),
    )
