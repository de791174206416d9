"""One sentence from text to sound, as a stream: three small machines, each handing on what is final.

SentenceTokens    text -> units -> semantic tokens, one by one    (backbone with its speech expert)
acoustic_frames   semantic tokens -> frames of acoustic codes     (acoustic LM, a few frames behind)
render            codes -> samples                                (vocoder, its delay behind)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voicegraft.acoustic.acoustic_lm import AcousticLM
from voicegraft.acoustic.vocoder import Vocoder
from voicegraft.data.pronunciation import BOUNDARIES, START, words_of
from voicegraft.data.sequences import MAX_ELAPSED, NO_LETTERS
from voicegraft.data.spelling import windows
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.inference.sampling import Sampling, draw
from voicegraft.tokenizers.vocabulary import ADVANCE, SAY

PUSH_PER_FRAME = 0.5  # added to the logit of going on, per frame beyond SpeakOptions.long_unit_frames
MOST_PHONES = 8  # of a letter: the name of W has seven


@dataclass(frozen=True)
class SpeakOptions:
    """How to speak; the defaults are a pack's own business (``pack.json``)."""

    semantic: Sampling = field(default_factory=Sampling)
    acoustic_temperature: float = 0.0  # 0 takes the likeliest codes
    acoustic_history: bool = False  # whether a frame's codes are drawn in sight of the frame before
    pace: float = 0.0  # added to the logit of going on to the next unit: below 0 is slower
    long_unit_frames: int = 15  # from here on, going on becomes likelier with every frame
    max_unit_frames: int = 40  # longest phone or pause; reaching it is reported
    first_chunk_frames: int = 5  # frames rendered at once at the beginning of a sentence ...
    chunk_frames: int = 10  # ... and afterwards


@dataclass
class SpokenUnit:
    unit: str
    start_frame: int
    num_frames: int = 0


class SentenceTokens:
    """Semantic tokens of one sentence; iterating runs the model.

    The number of units is bounded by the text and the frames of a unit are bounded too, so every sentence ends.
    ``cut`` tells whether a bound had to be used.
    """

    def __init__(
        self, lm: SpeechLM, text: str, voice: str, options: SpeakOptions, generator: torch.Generator | None = None
    ):
        self.lm, self.options, self.generator = lm, options, generator
        self.text, self.voice = text, voice
        self.units: list[str] = []
        self.spoken: list[SpokenUnit] = []
        self.cut = False

    @torch.inference_mode()
    def __iter__(self) -> Iterator[int]:
        lm, vocabulary = self.lm, self.lm.vocabulary
        cache = lm.start_cache()
        self.units = self._think(cache)
        index = [vocabulary.unit_index[unit] for unit in self.units]
        frame = 0
        for n, unit in enumerate(self.units):
            now, following = index[n] + 1, index[n + 1] + 1 if n + 1 < len(index) else 0
            spoken = SpokenUnit(unit, frame)
            self.spoken.append(spoken)
            silent = unit == START or unit in BOUNDARIES
            token = ADVANCE if n else SAY
            while True:
                hidden = lm.hidden(self._embed(token, now, following, min(spoken.num_frames, MAX_ELAPSED)), cache)[
                    :, -1
                ]
                if spoken.num_frames >= self.options.max_unit_frames:
                    self.cut = True
                    break
                logits = lm.rows.head(hidden)[0]
                # A phone lasts a frame at least; a boundary may last none.
                if (silent or spoken.num_frames) and self._goes_on(logits, spoken.num_frames):
                    break
                token = vocabulary.first_code + draw(
                    logits[vocabulary.first_code :], self.options.semantic, self.generator
                )
                spoken.num_frames += 1
                frame += 1
                yield token - vocabulary.first_code

    def _goes_on(self, logits: Tensor, num_frames: int) -> bool:
        """Draws whether the next unit begins, always at temperature 1.

        A lower one would shorten every unit: ADVANCE is one token and competes with the sum of many codes. A unit that
        lasts longer than speech does is pushed on, harder with every frame: at such lengths the model has seen nothing.
        """
        first = self.lm.vocabulary.first_code
        stay = torch.logsumexp(logits[first:], 0)
        push = PUSH_PER_FRAME * max(0, num_frames - self.options.long_unit_frames)
        chance = torch.sigmoid(logits[ADVANCE] + self.options.pace + push - stay)
        return bool(torch.rand((), generator=self.generator, device=logits.device) < chance)

    def _think(self, cache: Any) -> list[str]:
        """Spells the words letter by letter, the likeliest phones; leaves the cache just before SAY."""
        lm, vocabulary = self.lm, self.lm.vocabulary
        first, last = vocabulary.first_unit, vocabulary.first_code
        allowed = torch.full((vocabulary.size,), -torch.inf, device=lm.rows.token.weight.device)
        allowed[first:last] = 0.0
        for mark in (START, *BOUNDARIES):
            allowed[first + vocabulary.unit_index[mark]] = -torch.inf
        units = [START]
        pending = torch.cat([self._text(lm.text_ids(self.text)), self._embed(vocabulary.voice_id(self.voice))], 1)
        for word in words_of(self.text):
            pending = torch.cat([pending, self._text(lm.word_ids(word.written))], 1)
            silent_so_far = True
            for place, window in enumerate(windows(word.letters), start=1):
                token, count = ADVANCE, 0
                while True:
                    here = self._embed(token, elapsed=min(count, MAX_ELAPSED), letters=window)
                    hidden = lm.hidden(torch.cat([pending, here], 1), cache)[:, -1]
                    pending = pending[:, :0]
                    if count == MOST_PHONES:
                        self.cut = True
                        break
                    # Letters may be silent, but not all letters of a word.
                    allowed[ADVANCE] = -torch.inf if silent_so_far and place == len(word.letters) else 0.0
                    token = int((lm.rows.head(hidden)[0] + allowed).argmax())
                    if token == ADVANCE:
                        break
                    units.append(vocabulary.units[token - first])
                    silent_so_far = False
                    count += 1
            units.append(word.boundary)  # the text tells
        return units

    def _text(self, ids: list[int]) -> Tensor:
        return self.lm.embed_text(torch.tensor([ids], device=self.lm.rows.token.weight.device))

    def _embed(
        self, token: int, now: int = 0, following: int = 0, elapsed: int = 0, letters: Sequence[int] = NO_LETTERS
    ) -> Tensor:
        device = self.lm.rows.token.weight.device
        one, two, three, four = torch.tensor([[[token]], [[now]], [[following]], [[elapsed]]], device=device)
        return self.lm.rows.embed(one, two, three, four, torch.tensor([[list(letters)]], device=device))


@torch.inference_mode()
def acoustic_frames(
    model: AcousticLM,
    semantic: Iterable[int],
    voice: str,
    options: SpeakOptions,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Semantic tokens -> codes ``[1, K]`` per frame, ``ahead`` frames behind the tokens, all frames in the end."""
    c = model.config
    device = model.codebooks.device
    voice_number = torch.tensor([c.voices.index(voice)], device=device)
    state = model.start()
    recent = [model.beyond] * c.past
    span = c.past + 1 + c.ahead

    def step() -> Tensor:
        nonlocal state
        ids = torch.tensor([recent[:span]], device=device)
        codes, state = model.step(
            ids, voice_number, state, options.acoustic_temperature, generator, not options.acoustic_history
        )
        del recent[0]
        return codes

    for token in semantic:
        recent.append(token)
        if len(recent) == span:
            yield step()
    while len(recent) > c.past:
        recent += [model.beyond] * (span - len(recent))
        codes = step()
        # What was appended stands for the end and is not spoken.
        while recent and recent[-1] == model.beyond and len(recent) > c.past:
            del recent[-1]
        yield codes


@torch.inference_mode()
def render(vocoder: Vocoder, frames: Iterable[Tensor], first_chunk: int, chunk: int) -> Iterator[np.ndarray]:
    """Codes ``[1, K]`` per frame -> float32 samples, rendered some frames at a time."""
    state = vocoder.start()
    waiting: list[Tensor] = []
    size = first_chunk
    heard = False
    for codes in frames:
        waiting.append(codes)
        if len(waiting) == size:
            samples, state = vocoder.step(torch.stack(waiting, -1), state)
            waiting, size, heard = [], chunk, True
            yield samples[0].float().cpu().numpy()
    if waiting:
        samples, state = vocoder.step(torch.stack(waiting, -1), state)
        heard = True
        yield samples[0].float().cpu().numpy()
    if heard:
        yield vocoder.finish(state)[0].float().cpu().numpy()
