"""One sentence from text to semantic tokens, as a machine without a model: it asks for logits and says what they mean.

``SentenceMachine`` is what every layout has; ``GuidedMachine`` spells a sentence and says its units in order. The engine
(``inference.engine``) answers what machines ask for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from voicegraft.data.layouts import Feed, SpeechLayout, Spelling, answered
from voicegraft.guard.guarded import GuardPolicy, SpokenUnit
from voicegraft.inference.sampling import Sampling, draw
from voicegraft.text.units import BOUNDARIES, START, words_of
from voicegraft.tokenizers.vocabulary import END_OF_UNIT, SPEECH_BOS

PUSH_PER_FRAME = 0.5  # added to the logit of going on, per frame beyond SpeakOptions.long_unit_frames
MOST_PHONES = 8  # of a letter: the name of W has seven

Asking = Generator[Feed | int, np.ndarray, None]


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
    # Of the plain layout, which has no units: longest sentence, per letter, on top of a second.
    max_letter_frames: float = 12.0
    guard: GuardPolicy = field(default_factory=GuardPolicy)  # in a pack with a monitor
    first_chunk_frames: int = 5  # frames rendered at once at the beginning of a sentence ...
    chunk_frames: int = 10  # ... and afterwards


@dataclass(frozen=True)
class Sentence:
    """What is to be said, in letters and in the backbone's tokens."""

    text: str
    ids: Sequence[int]  # of the whole sentence
    word_ids: Sequence[Sequence[int]] = ()  # of each word (``text.units.words_of``), for layouts that spell
    pronunciations: Mapping[int, Sequence[str]] = field(
        default_factory=dict
    )  # by word: phones that are not to be found


class SentenceMachine(ABC):
    """Says one sentence. ``request`` is what is asked of the model next: the logits after some positions, or, as the token
    that was drawn last, those of the next token of its group; None when the sentence is over. ``take`` brings the answer.

    Every sentence ends, by a budget if need be: then ``cut`` is set.
    """

    request: Feed | int | None

    def __init__(
        self,
        layout: SpeechLayout,
        sentence: Sentence,
        voice: str,
        options: SpeakOptions,
        random: np.random.Generator | None = None,
    ):
        self.layout, self.sentence, self.voice, self.options = layout, sentence, voice, options
        self.random = random or np.random.default_rng()
        self.prompt = layout.prompt(sentence.ids)  # to be read before the first request
        self.codes: list[int] = []  # said so far
        self.units: list[str] = []  # that the text is said in, once they are known; none in a layout that has no units
        self.spoken: list[SpokenUnit] = []  # those that were said
        self.cut = False
        self._continue(self._run())

    def take(self, logits: np.ndarray) -> None:
        """The logits ``[N, V]`` that were asked for: one row, or a second one after ``Feed.ahead``."""
        self.request = answered(self._asking, logits)

    def rewind(self, num_frames: int, unit: int, temperature: float | None = None) -> None:
        """Forgets all but the first ``num_frames`` codes, and goes on with the beginning of ``unit``, in layouts with units."""
        raise NotImplementedError

    @abstractmethod
    def _run(self) -> Asking:
        """Says the whole sentence."""

    def _continue(self, asking: Asking) -> None:
        self._asking = asking
        self.request = next(asking, None)


@dataclass(frozen=True)
class _Read:
    """A position of speaking that the model has read."""

    num_frames: int  # codes said before it; all of them have been read with it
    unit: int  # number
    begins_unit: bool


class GuidedMachine(SentenceMachine):
    """Spells the sentence, the likeliest phones, and says its units in order, each once.

    The number of units is bounded by the text and the frames of a unit are bounded too.
    """

    _read: list[_Read]
    _said: list[int]  # numbers of the units in ``spoken``

    def rewind(self, num_frames: int, unit: int, temperature: float | None = None) -> None:
        """Forgets all but the first ``num_frames`` codes, and goes on with the beginning of ``unit``.

        Args:
            num_frames: fewer than have been said, unless the sentence has ended.
            temperature: of the semantic tokens from here on.
        """
        keep = 0
        for read in self._read:
            # Of what was read after the last token that stays: that token itself, and units that were empty.
            token = read.num_frames == num_frames and not read.begins_unit
            if read.num_frames > num_frames or not (read.num_frames < num_frames or token or read.unit < unit):
                break
            keep += 1
        crop = len(self._read) - keep + (self.request.crop if isinstance(self.request, Feed) else 0)
        del self._read[keep:], self.codes[num_frames:]
        self._settle(num_frames, unit)
        if temperature is not None:
            self.options = replace(self.options, semantic=replace(self.options.semantic, temperature=temperature))
        self._continue(self._say(unit, crop))

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

    def _run(self) -> Asking:
        self._read, self._said = [], []
        yield from self._spell()
        yield from self._say(0)

    def _spell(self) -> Asking:
        """Finds the units, letter by letter.

        Most letters make one phone or none, so a phone and the beginning of the next letter may be read together, and the
        latter is forgotten if the letter makes more. It saves a step for most letters.

        Where the phones of a word are given, the model only tells which of its letters make them, or, in a layout that spells
        unknown words alone, is not asked.
        """
        vocabulary, words = self.layout.vocabulary, words_of(self.sentence.text)
        pronunciations = self.sentence.pronunciations
        leaves_out = self.layout.spells == "unknown"
        spelt = [n for n in range(len(words)) if not (leaves_out and n in pronunciations)]
        steps = self.layout.spell((self.sentence.word_ids[n], words[n].letters) for n in spelt)
        phones = [n for n, unit in enumerate(vocabulary.units) if unit not in (START, *BOUNDARIES)]
        candidates = np.array([END_OF_UNIT, *(vocabulary.first_unit + n for n in phones)])
        given = iter([*(deque(pronunciations.get(n, ())) or None for n in spelt), None])
        units, crop, rest = [START], 0, next(given)
        said = 0  # words whose units are there

        def say_known() -> None:
            nonlocal said
            while said < len(words) and said not in spelt:
                units.extend((*pronunciations[said], words[said].boundary))
                said += 1

        say_known()
        known: np.ndarray | None = None  # the logits of this step, where it was read ahead
        step = next(steps, None)
        while step is not None:
            logits = (yield Feed(step.positions, step.ahead, crop)) if known is None else known[None]
            ahead = logits[1] if len(logits) > 1 else None
            likely = logits[0][candidates]
            if rest is None:
                token = int(candidates[self._allowed(likely, step, units).argmax()])
            elif rest and (step.closes_word or np.logaddexp.reduce(likely[1:]) > likely[0]):
                token = vocabulary.first_unit + vocabulary.unit_index[rest.popleft()]
            else:
                token = END_OF_UNIT
            known, crop = (ahead, 0) if token == END_OF_UNIT else (None, 0 if ahead is None else len(step.ahead))
            if token != END_OF_UNIT:
                units.append(vocabulary.units[token - vocabulary.first_unit])
            elif step.closes_word:
                units.append(words[said].boundary)  # the text tells
                said += 1
                say_known()
                rest = next(given)
            step = answered(steps, token)
        self.units = units

    def _allowed(self, logits: np.ndarray, step: Spelling, units: Sequence[str]) -> np.ndarray:
        """Letters may be silent, but not all letters of a word, and a letter has so many phones at most."""
        if step.positions[-1].elapsed == MOST_PHONES:
            self.cut = True
            return logits[:1]
        if step.closes_word and units[-1] in (START, *BOUNDARIES):
            logits[0] = -np.inf
        return logits

    def _order(self, unit: int) -> Iterable[int]:
        """The numbers of the units to be said, from this one on; asked for one by one."""
        return range(unit, len(self.units))

    def _say(self, first: int, crop: int = 0) -> Asking:
        """Says units from the first one on, after what has been read."""
        first_code, windows = self.layout.vocabulary.first_code, self.layout.windows(self.units)
        for number in self._order(first):
            spoken = SpokenUnit(self.units[number], len(self.codes))
            # A unit begins in the group that ends the one before.
            said = [first_code + code for code in self.codes[self._read[-1].num_frames :]] if self._read else []
            steps = self.layout.unit([*said, END_OF_UNIT] if self._read else [SPEECH_BOS], windows[number])
            lasts, limit = 1.0, self._length_quantile()
            position, begins = next(steps, None), True
            while position is not None:
                logits = yield Feed([position], crop=crop)
                if begins:
                    self.spoken.append(spoken)
                    self._said.append(number)
                self._read.append(_Read(len(self.codes), number, begins))
                crop, begins = 0, False
                group: list[int] = []
                while len(group) < self.layout.frames_per_step:
                    if group:
                        logits = yield group[-1]
                    lasts *= self._chance_of_staying(logits[0], spoken)
                    if lasts <= limit:
                        group.append(END_OF_UNIT)
                        break
                    code = draw(logits[0, first_code:], self.options.semantic, self.random)
                    group.append(first_code + code)
                    self.codes.append(code)
                    spoken.num_frames += 1
                position = answered(steps, group)

    def _length_quantile(self) -> float:
        """The unit ends when the model's probability that it lasts on has fallen to this.

        Drawing at every frame would be a draw from the whole distribution of lengths, and the model's has all the variety of
        speech without all of its reasons: such speech is jerky. The middle of the distribution is what listeners follow.
        """
        return max(0.0, 0.5 + self.options.length_spread * (self.random.random() - 0.5))

    def _chance_of_staying(self, logits: np.ndarray, spoken: SpokenUnit) -> float:
        """That the next unit does not begin now, at temperature 1: a lower one would shorten every unit, since END_OF_UNIT
        is one token and competes with the sum of many codes.

        A unit that lasts longer than speech does is pushed on, harder with every frame: at such lengths the model has seen
        nothing.
        """
        if spoken.num_frames >= self.options.max_unit_frames:
            self.cut = True
            return 0.0
        if not spoken.num_frames and spoken.unit not in (START, *BOUNDARIES):
            return 1.0  # a phone lasts a frame at least; a boundary may last none
        push = PUSH_PER_FRAME * max(0, spoken.num_frames - self.options.long_unit_frames)
        stay = np.logaddexp.reduce(logits[self.layout.vocabulary.first_code :])
        # The logistic function, which does not overflow as a hyperbolic tangent.
        return float(0.5 - 0.5 * np.tanh((logits[END_OF_UNIT] + self.options.pace + push - stay) / 2))
