"""Advances many sentences, each at its own place, by one call of the model per step; a single one is the same with one.

An engine belongs to one thread. Sentences join and leave between any two steps; what one says does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from voicegraft.data.layouts import Feed, SpeechLayout
from voicegraft.guard.guarded import SpokenUnit
from voicegraft.inference.plain import PlainMachine
from voicegraft.inference.sentence import GuidedMachine, Sentence, SentenceMachine, SpeakOptions
from voicegraft.text.units import words_of

if TYPE_CHECKING:
    from voicegraft.fusion.speech_lm import SpeechLM

MOST_WAITING = 50  # tokens of a sentence that nobody has taken; then it waits


class Engine:
    """The sentences that one model is saying."""

    def __init__(self, lm: SpeechLM):
        self.lm = lm
        self.sentences: list[SentenceTokens] = []

    def join(self, sentence: SentenceTokens) -> None:
        """From the next step on the sentence advances with the others."""
        if sentence not in self.sentences:
            self.sentences.append(sentence)

    def leave(self, sentence: SentenceTokens) -> None:
        """It stands still, and may join again."""
        if sentence in self.sentences:
            self.sentences.remove(sentence)

    def step(self) -> None:
        """Advances all sentences by one call of the model, but for those that are over or far ahead of their reader."""
        going = [s for s in self.sentences if not s.is_over and s.num_waiting < MOST_WAITING]
        asked = []
        for s in going:
            if s.state is None:
                s.state = self.lm.start(s.machine.prompt)
            assert isinstance(s.machine.request, Feed)
            asked.append(s.machine.request)
        for s, logits in zip(going, self.lm.advance([s.state for s in going], asked) if going else [], strict=True):
            s.machine.take(logits)
        # The other tokens of a group: a light head, and no pass of the backbone.
        while following := [(s, s.machine.request) for s in going if isinstance(s.machine.request, int)]:
            found = self.lm.follow([s.state for s, _ in following], [token for _, token in following])
            for (s, _), logits in zip(following, found, strict=True):
                s.machine.take(logits)


class SentenceTokens:
    """Semantic tokens of one sentence; iterating advances the engine, and goes on after what was handed out before."""

    def __init__(self, engine: Engine, machine: SentenceMachine):
        self.engine, self.machine = engine, machine
        self.state: Any = None  # the model's
        self._num_handed = 0

    @property
    def units(self) -> list[str]:
        return self.machine.units

    @property
    def spoken(self) -> list[SpokenUnit]:
        return self.machine.spoken

    @property
    def is_over(self) -> bool:
        return self.machine.request is None

    @property
    def num_waiting(self) -> int:
        """Tokens that have been said and not handed out."""
        return len(self.machine.codes) - self._num_handed

    def __iter__(self) -> Iterator[int]:
        self.engine.join(self)
        try:
            while self.num_waiting or not self.is_over:
                if not self.num_waiting:
                    self.engine.step()
                yield from iter(self._next, None)
        finally:
            self.engine.leave(self)

    def take(self) -> list[int]:
        """The tokens that wait, for those who call ``Engine.step`` themselves."""
        return list(iter(self._next, None))

    def _next(self) -> int | None:
        if not self.num_waiting:
            return None
        self._num_handed += 1
        return self.machine.codes[self._num_handed - 1]

    def rewind(self, num_frames: int, unit: int, temperature: float | None = None) -> None:
        """Keeps the first ``num_frames`` tokens; iterating goes on with the beginning of ``unit``."""
        self.machine.rewind(num_frames, unit, temperature)
        self._num_handed = num_frames

    def spell(self) -> list[str]:
        """The units that the text is said in; nothing of it is said yet."""
        self.engine.join(self)
        while not self.units:
            self.engine.step()
        self.engine.leave(self)
        return self.units


def sentence_tokens(
    lm: SpeechLM,
    text: str,
    voice: str,
    options: SpeakOptions,
    random: np.random.Generator | None = None,
    engine: Engine | None = None,
    machine: Callable[..., SentenceMachine] | None = None,
    pronunciations: Mapping[int, Sequence[str]] | None = None,
) -> SentenceTokens:
    """What says one sentence in the layout that the speech expert was trained in.

    Args:
        engine: which it is to share with others; one of its own if None.
        machine: makes another machine than the layout's.
        pronunciations: phones of words of the text, by number, where the model is not to find them; for layouts that spell.
    """
    config = lm.speech_embedding.config
    guided = config.layout == "guided"
    word_ids = [lm.word_ids(word.written) for word in words_of(text)] if guided else []
    layout = SpeechLayout(config.vocabulary, voice, config.frames_per_step, config.spells)
    known: Mapping[int, Sequence[str]] = lm.lexicon.pronunciations(text) if guided and lm.lexicon else {}
    make = machine or (GuidedMachine if guided else PlainMachine)
    made = make(
        layout, Sentence(text, lm.text_ids(text), word_ids, {**known, **(pronunciations or {})}), voice, options, random
    )
    return SentenceTokens(engine or Engine(lm), made)
