"""One sentence from text to semantic tokens: the backbone with its speech expert spells it and says its units in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from voicegraft.data.sequences import MAX_ELAPSED, unit_window
from voicegraft.data.spelling import LETTER_WINDOW, letter_windows
from voicegraft.fusion.speech_lm import LmState, SpeechLM
from voicegraft.guard.guarded import GuardPolicy, SpokenUnit
from voicegraft.inference.sampling import Sampling, draw
from voicegraft.text.units import BOUNDARIES, START, words_of
from voicegraft.tokenizers.vocabulary import ADVANCE, SAY

PUSH_PER_FRAME = 0.5  # added to the logit of going on, per frame beyond SpeakOptions.long_unit_frames
MOST_PHONES = 8  # of a letter: the name of W has seven


@dataclass(frozen=True)
class SpeakOptions:
    """How to speak; the defaults are a pack's own business (``pack.json``)."""

    semantic: Sampling = field(default_factory=Sampling)
    acoustic_blend: bool = True  # frames are means over all codes by their probability; False draws codes
    acoustic_temperature: float = 0.5  # 0 takes the likeliest codes
    acoustic_history: bool = False  # whether a frame's codes are drawn in sight of the frame before
    length_spread: float = 0.2  # of a unit: 0 takes the median of the model's distribution, 1 draws from all of it
    pace: float = 0.0  # added to the logit of going on to the next unit: below 0 is slower
    long_unit_frames: int = 15  # from here on, going on becomes likelier with every frame
    max_unit_frames: int = 40  # longest phone or pause; reaching it is reported
    max_letter_frames: float = (
        12.0  # of a plain layout, which has no units: longest sentence, per letter; on top of a second
    )
    guard: GuardPolicy = field(default_factory=GuardPolicy)  # in a pack with a monitor
    first_chunk_frames: int = 5  # frames rendered at once at the beginning of a sentence ...
    chunk_frames: int = 10  # ... and afterwards


@dataclass(frozen=True)
class _Letter:
    begin: Tensor  # [1, T, D] what goes before it, if anything, and the token that begins it
    places: Tensor  # [MOST_PHONES + 1, D]
    boundary: str  # of its word
    closes_word: bool


@dataclass(frozen=True)
class _Read:
    """A position of speaking that the model has read."""

    num_frames: int  # tokens said before it; all of them have been read with it
    unit: int  # number
    begins_unit: bool
    row: Tensor  # [1, 1, D]


class SentenceTokens:
    """Semantic tokens of one sentence; iterating runs the model.

    The number of units is bounded by the text and the frames of a unit are bounded too, so every sentence ends.
    ``cut`` tells whether a bound had to be used. ``rewind`` goes back, to say something again.
    """

    def __init__(
        self, lm: SpeechLM, text: str, voice: str, options: SpeakOptions, random: np.random.Generator | None = None
    ):
        self.lm, self.options, self.random = lm, options, random or np.random.default_rng()
        self.text, self.voice = text, voice
        self.units: list[str] = []
        self.spoken: list[SpokenUnit] = []
        self.cut = False
        self._state: LmState | None = None
        self._thought: list[Tensor] = []  # what the model has read since its prompt, to spell ...
        self._read: list[_Read] = []  # ... and to say
        self._said: list[int] = []  # numbers of the units in ``spoken``
        self._tokens: list[int] = []  # speech ids of all codes said
        self._next_unit = 0

    @property
    def num_said(self) -> int:
        """Tokens said so far."""
        return len(self._tokens)

    @torch.inference_mode()
    def __iter__(self) -> Iterator[int]:
        """Says the sentence, or goes on after what was said before."""
        self.spell()
        while self._next_unit < len(self.units):
            number = self._next_unit
            self._next_unit = number + 1
            yield from self._say(number)
            self._next_unit = self.unit_after(number)

    @torch.inference_mode()
    def spell(self) -> list[str]:
        """The units that the text is said in; nothing of it is said yet."""
        if self._state is None:
            self._state = self.begin()
            self.units = self._think(self._state)
        return self.units

    def unit_after(self, number: int) -> int:
        """Which unit follows: the next. (A decoder that loses its place is made by overriding this.)"""
        return number + 1

    def rewind(self, num_frames: int, unit: int, temperature: float | None = None) -> None:
        """Forgets all but the first ``num_frames`` tokens; iterating goes on with the beginning of ``unit``.

        Args:
            num_frames: fewer than have been said, unless the sentence has ended.
            temperature: of the semantic tokens from here on.
        """
        assert self._state is not None
        keep = 0
        for read in self._read:
            # Of what was read after the last token that stays: that token itself, and units that were empty.
            token = read.num_frames == num_frames and not read.begins_unit
            if read.num_frames > num_frames or not (read.num_frames < num_frames or token or read.unit < unit):
                break
            keep += 1
        if self.lm.merges:
            self.lm.take_back(self._state, len(self._read) - keep)
        else:
            self._state = self.begin()
            self.lm.hidden(torch.cat([*self._thought, *(read.row for read in self._read[:keep])], 1), self._state)
        del self._read[keep:]
        self._settle(num_frames, unit)
        del self._tokens[num_frames:]
        self._next_unit = unit
        if temperature is not None:
            self.options = replace(self.options, semantic=replace(self.options.semantic, temperature=temperature))

    def _settle(self, num_frames: int, unit: int) -> None:
        """Takes it that the units before ``unit`` were said in ``num_frames`` frames, each once, whatever was tried."""
        before: dict[int, SpokenUnit] = {}
        for number, spoken in zip(self._said, self.spoken, strict=True):
            if number < unit and spoken.start_frame <= num_frames:
                before.setdefault(number, spoken)
        self.spoken.clear()
        self._said = list(range(unit))
        for number in self._said:
            starts = self.spoken[-1].start_frame + self.spoken[-1].num_frames if self.spoken else 0
            self.spoken.append(before.get(number) or SpokenUnit(self.units[number], starts))
        if self.spoken:
            self.spoken[-1].num_frames = num_frames - self.spoken[-1].start_frame

    def _say(self, number: int) -> Iterator[int]:
        """The tokens of one unit."""
        vocabulary = self.lm.vocabulary
        unit = self.units[number]
        spoken = SpokenUnit(unit, len(self._tokens))
        self.spoken.append(spoken)
        self._said.append(number)
        silent = unit == START or unit in BOUNDARIES
        places = self._places(MAX_ELAPSED, units=self._around(number))
        # A unit begins in the group that ends the one before.
        group = [*self._tokens[self._read[-1].num_frames :], ADVANCE] if self._read else [SAY]
        lasts, limit = 1.0, self._length_quantile()
        begins = True
        while True:
            row = self._at(group, places, spoken.num_frames)
            self._read.append(_Read(len(self._tokens), number, begins, row))
            hidden = self.lm.hidden(row, self._state)[:, -1]
            group, begins = [], False
            for slot in range(self.lm.rows.config.frames_per_step):
                if slot:
                    hidden = self.lm.rows.after(hidden, torch.tensor([group[-1]], device=self._device))
                logits = self.lm.rows.logits(hidden)[0].cpu().numpy()
                if spoken.num_frames >= self.options.max_unit_frames:
                    self.cut = True
                    return
                # A phone lasts a frame at least; a boundary may last none.
                if silent or spoken.num_frames:
                    lasts *= 1 - self._chance_of_going_on(logits, spoken.num_frames)
                    if lasts <= limit:
                        return
                code = draw(logits[vocabulary.first_code :], self.options.semantic, self.random)
                group.append(vocabulary.first_code + code)
                self._tokens.append(group[-1])
                spoken.num_frames += 1
                yield code

    def _around(self, number: int) -> Sequence[int]:
        """The unit with its neighbours, as rows of the window."""
        vocabulary = self.lm.vocabulary
        window = unit_window(vocabulary)
        first = max(0, number - window.before)
        near = self.units[first : number + window.after + 1]
        return window.rows([vocabulary.unit_index[unit] for unit in near])[number - first]

    def begin(self) -> LmState:
        """Runs the prompt, on which the router decides: the sentence and the voice that is to say it."""
        lm = self.lm
        marker = self._at([lm.vocabulary.voice_id(self.voice)], self._places(0), 0)
        return lm.begin(self._text(lm.text_ids(self.text)), marker)

    def _length_quantile(self) -> float:
        """The unit ends when the model's probability that it lasts on has fallen to this.

        Drawing at every frame would be a draw from the whole distribution of lengths, and the model's has all the variety of
        speech without all of its reasons: such speech is jerky. The middle of the distribution is what listeners follow.
        """
        spread = self.options.length_spread
        return 0.5 + spread * (self.random.random() - 0.5)

    def _chance_of_going_on(self, logits: np.ndarray, num_frames: int) -> float:
        """That the next unit begins now, at temperature 1: a lower one would shorten every unit, since ADVANCE is one
        token and competes with the sum of many codes.

        A unit that lasts longer than speech does is pushed on, harder with every frame: at such lengths the model has seen
        nothing.
        """
        first = self.lm.vocabulary.first_code
        stay = np.logaddexp.reduce(logits[first:])
        push = PUSH_PER_FRAME * max(0, num_frames - self.options.long_unit_frames)
        return float(
            0.5 + 0.5 * np.tanh((logits[ADVANCE] + self.options.pace + push - stay) / 2)
        )  # the logistic function

    def _think(self, state: LmState) -> list[str]:
        """Spells the words letter by letter, the likeliest phones; leaves the sequence just before SAY.

        Most letters make one phone or none, so where positions can be taken back, a phone and the beginning of the next letter
        go through the model together, and the latter is taken back if the letter makes more. It saves a step for most letters.
        """
        lm, vocabulary = self.lm, self.lm.vocabulary
        first, last = vocabulary.first_unit, vocabulary.first_code
        allowed = torch.full((vocabulary.size,), -torch.inf, device=self._device)
        allowed[first:last] = 0.0
        for mark in (START, *BOUNDARIES):
            allowed[first + vocabulary.unit_index[mark]] = -torch.inf
        units = [START]
        letters = self._letters()
        begun: Tensor | None = None  # the hidden state at the beginning of a letter, when it is known already
        for n, letter in enumerate(letters):
            self._thought.append(letter.begin)
            hidden = lm.hidden(letter.begin, state)[:, -1] if begun is None else begun
            begun, count = None, 0
            ahead = None if not lm.merges or n + 1 == len(letters) else letters[n + 1].begin
            while True:
                # Letters may be silent, but not all letters of a word.
                allowed[ADVANCE] = -torch.inf if letter.closes_word and units[-1] in (START, *BOUNDARIES) else 0.0
                token = int((lm.rows.logits(hidden)[0] + allowed).argmax())
                if token == ADVANCE:
                    break
                if begun is not None and ahead is not None:
                    lm.take_back(state, ahead.shape[1])
                    begun = None
                units.append(vocabulary.units[token - first])
                count += 1
                said = self._at([token], letter.places, count)
                self._thought.append(said)
                if ahead is None or count == MOST_PHONES:
                    hidden = lm.hidden(said, state)[:, -1]
                else:
                    out = lm.hidden(torch.cat([said, ahead], 1), state)
                    hidden, begun = out[:, 0], out[:, -1]
                if count == MOST_PHONES:
                    self.cut = True
                    break
            if letter.closes_word:
                units.append(letter.boundary)  # the text tells
        return units

    def _letters(self) -> list[_Letter]:
        """All letters of the text, the first of a word with the word before it."""
        letters = []
        for word in words_of(self.text):
            before = [self._text(self.lm.word_ids(word.written))]
            for place, window in enumerate(letter_windows(word.letters), start=1):
                places = self._places(MOST_PHONES, letters=window)
                begin = torch.cat([*before, self._at([ADVANCE], places, 0)], 1)
                letters.append(_Letter(begin, places, word.boundary, place == len(word.letters)))
                before = []
        return letters

    @property
    def _device(self) -> torch.device:
        return self.lm.rows.token.weight.device

    def _text(self, ids: list[int]) -> Tensor:
        return self.lm.embed_text(torch.tensor([ids], device=self._device))

    def _places(
        self, last: int, units: Sequence[int] | None = None, letters: Sequence[int] = LETTER_WINDOW.none
    ) -> Tensor:
        """What tells the places of one unit or letter after 0 to ``last`` frames or phones, ``[last + 1, D]``."""
        vocabulary, device = self.lm.vocabulary, self._device
        near = torch.tensor(unit_window(vocabulary).none if units is None else units, device=device)
        elapsed = torch.arange(last + 1, device=device)
        voice = torch.tensor(vocabulary.voice_id(self.voice), device=device)
        return self.lm.rows.where(voice, near, elapsed, torch.tensor(letters, device=device))

    def _at(self, group: Sequence[int], places: Tensor, elapsed: int) -> Tensor:
        """A group's embedding ``[1, 1, D]`` at one of the places, in the backbone's type."""
        row = self.lm.rows.group(group) + places[min(elapsed, len(places) - 1)]
        return row[None, None].to(self.lm.backbone.dtype)
