"""One sentence from text to semantic tokens without spelling: the model goes from the text to the codes by itself.

This is the layout of TTS-Llama (arXiv 2410.20336). It needs no pronunciations, and every position is an ordinary row of an
embedding table; but nothing keeps the model to the text, and the times of words are not known.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from voicegraft.data.layouts import Feed, answered
from voicegraft.inference.sampling import draw
from voicegraft.inference.sentence import Asking, SentenceMachine
from voicegraft.text.spoken_form import WIDE, num_letters
from voicegraft.tokenizers.vocabulary import END_OF_UNIT, SPEECH_BOS

LEAST_FRAMES = 50  # that any text may take


class PlainMachine(SentenceMachine):
    """Says codes until the model ends the sentence, or its budget does."""

    @cached_property
    def budget(self) -> int:
        """Frames that the sentence may take."""
        return LEAST_FRAMES + round(self.options.max_letter_frames * num_letters(self.sentence.text, WIDE))

    def _run(self) -> Asking:
        steps = self.layout.unit([SPEECH_BOS])
        position, last = next(steps, None), SPEECH_BOS
        while position is not None:
            logits = yield Feed([position])
            group: list[int] = []
            while len(group) < self.layout.frames_per_step and last != END_OF_UNIT:
                if group:
                    logits = yield last
                last = self._draw(logits[0], last)
                group.append(last)
            position = answered(steps, group)

    def _draw(self, logits: np.ndarray, last: int) -> int:
        """The speech id after ``last``; what is no speech at its place has no chance."""
        vocabulary, sampling = self.layout.vocabulary, self.options.semantic
        first_code, first_run = vocabulary.first_code, vocabulary.first_run
        if vocabulary.num_runs and first_code <= last < first_run:  # its length follows
            token = first_run + draw(logits[first_run:], sampling, self.random)
            code, lasts = last - first_code, token - first_run + 1
        else:
            end = -np.inf if last == SPEECH_BOS else logits[END_OF_UNIT]
            code = draw(np.append(logits[first_code:first_run], end), sampling, self.random)
            if code == vocabulary.num_codes:
                return END_OF_UNIT
            token, lasts = first_code + code, 0 if vocabulary.num_runs else 1
        room = self.budget - len(self.codes)
        self.codes += [code] * min(lasts, room)
        self.cut = lasts > room
        return END_OF_UNIT if self.cut else token
