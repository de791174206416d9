"""Training sequences of the speech expert: the positions of a layout (``data.layouts``), and what is to be predicted there."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from voicegraft.data.layouts import Answer, Position, SpeechLayout, Step, answered
from voicegraft.tokenizers.vocabulary import END_OF_UNIT, SPEECH_BOS, SpeechVocabulary

IGNORE = -100  # target of a position that is not trained


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


@dataclass(frozen=True)
class TaughtSequence(SpeechSequence):
    """One whose spoken tokens a teacher tells."""

    teacher: SpeechSequence  # the same utterance as the teacher reads it


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
    taught = _Taught(SpeechLayout(vocabulary, voice, frames_per_step), sentence)
    spelt = [
        token
        for word in words
        for group in word.groups
        for token in (*(vocabulary.first_unit + vocabulary.unit_index[phone] for phone in group), END_OF_UNIT)
    ]
    for step, token in _told(taught.layout.spell((word.ids, word.letters) for word in words), spelt):
        taught.add(step.positions, [token])
    if codes is not None and counts is not None:
        frame, begin = 0, [SPEECH_BOS]
        for window, count in zip(taught.layout.windows(units), counts.tolist(), strict=True):
            said = [vocabulary.first_code + code for code in codes[frame : frame + count].tolist()]
            begin = taught.unit(begin, said, window)
            frame += count
    return taught.sequence()


def plain_sequence(
    vocabulary: SpeechVocabulary, sentence: Sequence[int], voice: str, said: Sequence[int], frames_per_step: int = 1
) -> SpeechSequence:
    """The sequence of one utterance without its pronunciation.

    Args:
        sentence: backbone ids of the whole sentence.
        said: speech ids of the utterance, its end not included.
    """
    taught = _Taught(SpeechLayout(vocabulary, voice, frames_per_step), sentence)
    taught.unit([SPEECH_BOS], said)
    return taught.sequence()


def _told(steps: Generator[Step, Answer, object], known: Sequence[Answer]) -> Iterator[tuple[Step, Answer]]:
    """The steps of a part of a layout, each with what is known to follow."""
    step = next(steps, None)
    for follows in known:
        if step is None:
            break
        yield step, follows
        step = answered(steps, follows)
    else:
        if step is None:
            return
    raise ValueError("expected as much to follow as the layout has steps")


class _Taught:
    """A sequence while it grows: positions, and the group that follows each."""

    def __init__(self, layout: SpeechLayout, sentence: Sequence[int]) -> None:
        self.layout = layout
        self.positions: list[Position] = []
        self.targets: list[Sequence[int]] = []
        self.add(layout.prompt(sentence), [])

    def add(self, positions: Sequence[Position], target: Sequence[int]) -> None:
        self.positions += positions
        self.targets += [*[[]] * (len(positions) - 1), target]

    def unit(self, begin: list[int], said: Sequence[int], *window: tuple[int, ...]) -> list[int]:
        """Adds a unit's codes and its end, in groups; returns the last group, which begins the next unit."""
        stream, size = [*said, END_OF_UNIT], self.layout.frames_per_step
        groups = [stream[i : i + size] for i in range(0, len(stream), size)]
        for position, group in _told(self.layout.unit(begin, *window), groups):
            self.add([position], group)
        return groups[-1]

    def sequence(self) -> SpeechSequence:
        voice, text, tokens, units, elapsed, letters = zip(*self.positions, strict=True)
        token, target = self._filled(tokens, -1), self._filled(self.targets, IGNORE)
        return SpeechSequence(
            text=np.array(text, np.int32),
            token=token[:, 0],
            voice=np.array(voice, np.int32),
            units=np.array(units, np.int16),
            elapsed=np.array(elapsed, np.int32),
            letters=np.array(letters, np.int16),
            target=target[:, 0],
            more=token[:, 1:],
            more_target=target[:, 1:],
        )

    def _filled(self, groups: Sequence[Sequence[int]], nothing: int) -> np.ndarray:
        size = self.layout.frames_per_step
        return np.array([[*group, *[nothing] * (size - len(group))] for group in groups], np.int32)
