"""The layout of speech: which positions a sentence is made of, in which order, and what may follow each.

    the sentence <voice> | w1 . hh . ax . l . ow . | w2 . w . er ... | SPEECH_BOS c c c END_OF_UNIT c c c END_OF_UNIT ...
    for context            spells, letter by letter                    speaks, unit by unit

Text stands in the backbone's own tokens: the whole sentence first, and then each word again (``w1``) right before it is
spelt. Spelling and speaking work alike. Each letter's phones follow one another until END_OF_UNIT (``.`` above) goes on to the
next letter; each unit's semantic codes follow one another until END_OF_UNIT begins the next unit. Every position is told the
voice and where it is: the letter or the unit with its neighbours, and how many phones or frames it has had so far. So letters
and units come in order, each once, and the last unit's END_OF_UNIT is the end: alignment, progress and the end hold by
construction. The units that are spoken are ``^`` (the silence before), and each word's phones and boundary.

Where ``spells`` is "unknown", words whose pronunciation is given are not spelt: the first unit comes at once in most sentences.

In speaking, one position can say several tokens at once (``frames_per_step``): a unit's codes and the END_OF_UNIT that ends it
are cut into groups of that size, each group is predicted by the position before it, and stands together at the next.

    SPEECH_BOS  (c c)             (c END_OF_UNIT)  (c c)           (END_OF_UNIT) ...        two frames per step
    -> c c      -> c END_OF_UNIT  -> c c           -> END_OF_UNIT

The plain layout needs no pronunciation: ``the sentence <voice> | SPEECH_BOS c c c ... END_OF_UNIT``, the utterance as one unit
that is told nothing of its place.

A part of a layout is a generator: it yields a position and is sent what follows there. Training sends it what is known
(``data.sequences``), speaking what is drawn (``inference.sentence``), so both make the same positions by the same code.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from voicegraft.data.spelling import LETTER_WINDOW, Spells, letter_windows
from voicegraft.data.windows import Window
from voicegraft.tokenizers.vocabulary import END_OF_UNIT, SpeechVocabulary

MAX_ELAPSED = 24  # frames of a unit that are told apart

Step = TypeVar("Step")
Answer = TypeVar("Answer")


def unit_window(vocabulary: SpeechVocabulary) -> Window:
    """What is told of the units around the one being said."""
    return Window(before=2, after=3, num_kinds=len(vocabulary.units))


NO_UNITS = unit_window(SpeechVocabulary((), (), 0)).none


class Position(NamedTuple):
    """What stands at one position: a token of the text, or a group of speech tokens at its place."""

    voice: int  # speech id
    text: int = -1  # backbone id
    tokens: tuple[int, ...] = ()  # speech ids
    units: tuple[int, ...] = NO_UNITS  # rows of the unit being said and its neighbours, 0 outside speech
    elapsed: int = 0  # phones of the letter, or frames of the unit, so far; at most MAX_ELAPSED
    letters: tuple[int, ...] = LETTER_WINDOW.none  # the same of the letter being spelt, 0 outside spelling


class Spelling(NamedTuple):
    """A step of spelling: after the last of its positions comes a phone of the letter, or END_OF_UNIT."""

    positions: Sequence[Position]
    ahead: Sequence[Position]  # what comes after END_OF_UNIT; empty at the beginning of a letter, and at the end
    closes_word: bool  # whether the letter is the last of its word


@dataclass(frozen=True)
class Feed:
    """Asks the model for the logits of what follows some positions."""

    positions: Sequence[Position]
    ahead: Sequence[Position] = ()  # may be read along, and then the logits after them are wanted, too
    crop: int = 0  # positions to forget before, of those that were read last


class SpeechLayout:
    """The parts of a sentence in one voice."""

    def __init__(self, vocabulary: SpeechVocabulary, voice: str, frames_per_step: int = 1, spells: Spells = "all"):
        self.vocabulary, self.voice, self.frames_per_step = vocabulary, vocabulary.voice_id(voice), frames_per_step
        self.spells = spells

    def prompt(self, sentence: Sequence[int]) -> list[Position]:
        """Backbone ids of the sentence, and the voice: the router decides on them."""
        return [*self._text(sentence), Position(self.voice, tokens=(self.voice,))]

    def spell(self, words: Iterable[tuple[Sequence[int], str]]) -> Generator[Spelling, int, None]:
        """The spelling of words, each given as its backbone ids and its letters; is sent speech ids."""
        letters = []
        for ids, written in words:
            before = self._text(ids)
            for number, window in enumerate(letter_windows(written), start=1):
                begin = [*before, Position(self.voice, tokens=(END_OF_UNIT,), letters=window)]
                letters.append((begin, window, number == len(written)))
                before = []
        for (begin, window, closes_word), following in zip(letters, [*letters[1:], None], strict=False):
            step, elapsed = Spelling(begin, (), closes_word), 0
            while (token := (yield step)) != END_OF_UNIT:
                elapsed = min(elapsed + 1, MAX_ELAPSED)
                said = Position(self.voice, tokens=(token,), elapsed=elapsed, letters=window)
                step = Spelling([said], following[0] if following else (), closes_word)

    def unit(
        self, begin: Sequence[int], window: tuple[int, ...] = NO_UNITS
    ) -> Generator[Position, Sequence[int], Sequence[int]]:
        """One unit; is sent groups of speech ids, the last of which ends in END_OF_UNIT and begins the next unit.

        Args:
            begin: the group that the unit begins with.
        """
        group, elapsed = begin, 0
        while True:
            group = yield Position(self.voice, tokens=tuple(group), units=window, elapsed=min(elapsed, MAX_ELAPSED))
            if group[-1] == END_OF_UNIT:
                return group
            elapsed += len(group)

    def windows(self, units: Sequence[str]) -> list[tuple[int, ...]]:
        """Each unit with its neighbours, as rows of the window."""
        return unit_window(self.vocabulary).rows([self.vocabulary.unit_index[unit] for unit in units])

    def _text(self, ids: Sequence[int]) -> list[Position]:
        return [Position(self.voice, text=token) for token in ids]


def answered(steps: Generator[Step, Answer, object], answer: Answer) -> Step | None:
    """The next step after this answer; None where there is no more."""
    try:
        return steps.send(answer)
    except StopIteration:
        return None
