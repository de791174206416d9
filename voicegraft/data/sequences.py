"""Training sequences of the speech expert: what stands at each position, and what is to be predicted there.

    the sentence <voice> | w1 . hh . ax . l . ow . | w2 . w . er ... | SAY c c c ADVANCE c c c ADVANCE ...
    for context            thinks, letter by letter                    speaks, unit by unit

Text stands in the backbone's own tokens: the whole sentence first, and then each word again (``w1``) right before it is
spelt. Spelling and speaking work alike. Each letter's phones follow one another until ADVANCE (``.`` above) goes on to the next
letter; each unit's semantic codes follow one another until ADVANCE begins the next unit. Every position is told the voice
and where it is: the letter or the unit with its neighbours, and how many phones or frames it has had so far. So letters
and units come in order, each once, and the last unit's ADVANCE is the end: alignment, progress and the end hold by
construction. The units that are spoken are ``^`` (the silence before), and each word's phones and boundary.

In speaking, one position can say several tokens at once (``frames_per_step``): a unit's codes and the ADVANCE that ends it are
cut into groups of that size, each group is predicted by the position before it, and stands together at the next.

    SAY      (c c)    (c ADVANCE)  (c c)    (ADVANCE) ...        two frames per step
    -> c c   -> c ADVANCE   -> c c   -> ADVANCE

A plain sequence needs no pronunciation: ``the sentence <voice> | SAY c c c ... ADVANCE``, the utterance as one unit without
places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voicegraft.data.spelling import LETTER_WINDOW, letter_windows
from voicegraft.data.windows import Window
from voicegraft.tokenizers.vocabulary import ADVANCE, SAY, SpeechVocabulary

IGNORE = -100  # target of a position that is not trained
MAX_ELAPSED = 24  # frames of a unit that are told apart


def unit_window(vocabulary: SpeechVocabulary) -> Window:
    """What is told of the units around the one being said."""
    return Window(before=2, after=3, num_kinds=len(vocabulary.units))


@dataclass(frozen=True)
class WordSpelling:
    """A word of the text, and how it is pronounced."""

    ids: Sequence[int]  # backbone tokens of the word as it is written
    letters: str
    groups: Sequence[Sequence[str]]  # phones of each letter


@dataclass(frozen=True)
class SpeechSequence:
    """Arrays of one length ``[L]``; G is the number of frames per step."""

    text: np.ndarray  # backbone id, or -1 at speech positions
    token: np.ndarray  # speech id, the first of its group, or -1 at text positions
    voice: np.ndarray  # speech id of the voice
    units: np.ndarray  # [L, width] rows of the unit being said and its neighbours, 0 outside speech
    elapsed: np.ndarray  # phones of the letter, or frames of the unit, so far; at most MAX_ELAPSED
    letters: np.ndarray  # [L, width] rows of the letter being spelt and its neighbours, 0 outside spelling
    target: np.ndarray  # speech id that follows, or IGNORE
    more: np.ndarray  # [L, G - 1] the other speech ids of the group, -1 where there is none
    more_target: np.ndarray  # [L, G - 1] what follows the target, or IGNORE

    def __len__(self) -> int:
        return len(self.text)


def speech_sequence(
    vocabulary: SpeechVocabulary,
    sentence: Sequence[int],
    words: Sequence[WordSpelling],
    voice: str,
    units: Sequence[str],
    codes: np.ndarray | None = None,
    counts: np.ndarray | None = None,
    frames_per_step: int = 1,
) -> SpeechSequence:
    """Builds the sequence of one utterance.

    Args:
        sentence: backbone ids of the whole sentence.
        units: ``^``, then for each word its phones and one boundary.
        codes: semantic codes ``[T]``; None leaves speaking out (a sequence that only trains pronunciation).
        counts: frames of each unit ``[num_units]``, summing to T.
    """
    window = unit_window(vocabulary)
    column = _Columns(vocabulary.voice_id(voice), window, frames_per_step)
    column.text(sentence)
    column.speech([vocabulary.voice_id(voice)], [])
    for word in words:
        column.text(word.ids)
        for letters, group in zip(letter_windows(word.letters), word.groups, strict=True):
            made = [vocabulary.first_unit + vocabulary.unit_index[phone] for phone in group]
            for elapsed, (token, target) in enumerate(zip([ADVANCE, *made], [*made, ADVANCE], strict=True)):
                column.speech([token], [target], elapsed=elapsed, letters=letters)
    if codes is not None and counts is not None:
        around = window.rows([vocabulary.unit_index[unit] for unit in units])
        frame = 0
        begin = [SAY]
        for rows, count in zip(around, counts, strict=True):
            said = [vocabulary.first_code + int(c) for c in codes[frame : frame + count]]
            frame += int(count)
            begin = column.unit(begin, said, rows)
    return column.sequence()


def plain_sequence(
    vocabulary: SpeechVocabulary, sentence: Sequence[int], voice: str, said: Sequence[int], frames_per_step: int = 1
) -> SpeechSequence:
    """The sequence of one utterance without its pronunciation.

    Args:
        sentence: backbone ids of the whole sentence.
        said: speech ids of the utterance, its end not included.
    """
    column = _Columns(vocabulary.voice_id(voice), unit_window(vocabulary), frames_per_step)
    column.text(sentence)
    column.speech([vocabulary.voice_id(voice)], [])
    column.unit([SAY], said, column.window.none)
    return column.sequence()


class _Columns:
    """The fields of a sequence while it grows."""

    def __init__(self, voice: int, window: Window, frames_per_step: int) -> None:
        self.voice, self.window, self.size = voice, window, frames_per_step
        self.rows: list[tuple[int, int]] = []  # text, elapsed
        self.tokens: list[list[int]] = []
        self.targets: list[list[int]] = []
        self.units: list[Sequence[int]] = []
        self.letters: list[Sequence[int]] = []

    def text(self, ids: Sequence[int]) -> None:
        self.rows += [(i, 0) for i in ids]
        self.tokens += [self._group([], -1)] * len(ids)
        self.targets += [self._group([], IGNORE)] * len(ids)
        self.units += [self.window.none] * len(ids)
        self.letters += [LETTER_WINDOW.none] * len(ids)

    def speech(
        self,
        tokens: Sequence[int],
        targets: Sequence[int],
        elapsed: int = 0,
        units: Sequence[int] | None = None,
        letters: Sequence[int] = LETTER_WINDOW.none,
    ) -> None:
        """One position: the group of tokens that stands there, and the group that follows."""
        self.rows.append((-1, min(elapsed, MAX_ELAPSED)))
        self.tokens.append(self._group(tokens, -1))
        self.targets.append(self._group(targets, IGNORE))
        self.units.append(self.window.none if units is None else units)
        self.letters.append(letters)

    def unit(self, begin: Sequence[int], said: Sequence[int], units: Sequence[int]) -> list[int]:
        """A unit's codes and the ADVANCE that ends it, in groups; returns the last group, which begins the next unit."""
        stream = [*said, ADVANCE]
        groups = [stream[i : i + self.size] for i in range(0, len(stream), self.size)]
        for number, (tokens, targets) in enumerate(zip([begin, *groups], groups, strict=False)):
            self.speech(tokens, targets, elapsed=number * self.size, units=units)
        return groups[-1]

    def _group(self, tokens: Sequence[int], nothing: int) -> list[int]:
        return [*tokens, *[nothing] * (self.size - len(tokens))]

    def sequence(self) -> SpeechSequence:
        text, elapsed = np.asarray(self.rows, dtype=np.int32).T
        token, target = (np.asarray(groups, dtype=np.int32) for groups in (self.tokens, self.targets))
        units, letters = (np.asarray(rows, dtype=np.int16) for rows in (self.units, self.letters))
        return SpeechSequence(
            text=text,
            token=token[:, 0],
            voice=np.full_like(text, self.voice),
            units=units,
            elapsed=elapsed,
            letters=letters,
            target=target[:, 0],
            more=token[:, 1:],
            more_target=target[:, 1:],
        )
