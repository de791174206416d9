"""One sentence from text to semantic tokens without spelling: the model goes from the text to the codes by itself.

This is the layout of TTS-Llama (arXiv 2410.20336). It needs no pronunciations, and every position is an ordinary row of an
embedding table; but nothing keeps the model to the text, and the times of words are not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from voicegraft.fusion.speech_lm import LmState, SpeechLM
from voicegraft.guard.guarded import SpokenUnit
from voicegraft.inference.sampling import draw
from voicegraft.inference.sentence import SentenceTokens, SpeakOptions
from voicegraft.tokenizers.vocabulary import ADVANCE, SAY

LEAST_FRAMES = 50  # that any text may take


class PlainTokens:
    """Semantic tokens of one sentence; iterating runs the model. ``cut`` tells that the budget of the text ended it."""

    def __init__(
        self, lm: SpeechLM, text: str, voice: str, options: SpeakOptions, random: np.random.Generator | None = None
    ):
        self.lm, self.options, self.random = lm, options, random or np.random.default_rng()
        self.text, self.voice = text, voice
        self.spoken: list[SpokenUnit] = []  # none: there are no units
        self.cut = False
        self.budget = LEAST_FRAMES + round(options.max_letter_frames * sum(c.isalpha() for c in text))  # frames

    def begin(self) -> LmState:
        """Runs the prompt, on which the router decides: the sentence and the voice that is to say it."""
        lm = self.lm
        text = lm.embed_text(torch.tensor([lm.text_ids(self.text)], device=self._device))
        return lm.begin(text, self._row([lm.vocabulary.voice_id(self.voice)]))

    @torch.inference_mode()
    def __iter__(self) -> Iterator[int]:
        state = self.begin()
        num_frames = 0
        for code, lasts in self._codes(state):
            for _ in range(lasts):
                if num_frames == self.budget:
                    self.cut = True
                    return
                num_frames += 1
                yield code

    def _codes(self, state: LmState) -> Iterator[tuple[int, int]]:
        """Codes and how many frames each lasts."""
        vocabulary = self.lm.vocabulary
        code: int | None = None  # that waits for its length
        for token in self._tokens(state):
            if token >= vocabulary.first_run:
                assert code is not None
                yield code, token - vocabulary.first_run + 1
                code = None
            else:
                code = token - vocabulary.first_code
                if not vocabulary.num_runs:
                    yield code, 1

    def _tokens(self, state: LmState) -> Iterator[int]:
        """Speech ids up to ADVANCE, which ends the utterance; what is no speech at its place has no chance."""
        vocabulary, rows = self.lm.vocabulary, self.lm.rows
        group, length_follows, begun = [SAY], False, False
        while True:
            hidden = self.lm.hidden(self._row(group), state)[:, -1]
            group = []
            for slot in range(rows.config.frames_per_step):
                if slot:
                    hidden = rows.after(hidden, torch.tensor([group[-1]], device=self._device))
                logits = rows.logits(hidden)[0].cpu().numpy()
                if length_follows:
                    token = vocabulary.first_run + draw(
                        logits[vocabulary.first_run :], self.options.semantic, self.random
                    )
                else:
                    codes = logits[vocabulary.first_code : vocabulary.first_run]
                    end = logits[ADVANCE] if begun else -np.inf
                    drawn = draw(np.append(codes, end), self.options.semantic, self.random)
                    if drawn == len(codes):
                        return
                    token = vocabulary.first_code + drawn
                length_follows, begun = bool(vocabulary.num_runs) and not length_follows, True
                group.append(token)
                yield token

    @property
    def _device(self) -> torch.device:
        return self.lm.rows.token.weight.device

    def _row(self, group: Sequence[int]) -> Tensor:
        return self.lm.rows.group(group)[None, None].to(self.lm.backbone.dtype)


def sentence_tokens(
    lm: SpeechLM, text: str, voice: str, options: SpeakOptions, random: np.random.Generator | None = None
) -> SentenceTokens | PlainTokens:
    """What says one sentence in the layout that the speech expert was trained in."""
    says = SentenceTokens if lm.rows.config.layout == "guided" else PlainTokens
    return says(lm, text, voice, options, random)
