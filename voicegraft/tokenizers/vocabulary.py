"""The speech vocabulary: control tokens, one start token per voice, pronunciation units, semantic codes.

It is an id space of its own, beside the backbone's: no text id ever moves, and no text softmax grows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from voicegraft.core.errors import VoicegraftError

SPEECH_BOS = 0  # the pronunciation is complete, speaking begins
END_OF_UNIT = 1  # the next unit begins
MASK = 2  # stands for a code that training does not show
NUM_CONTROLS = 3


@dataclass(frozen=True)
class SpeechVocabulary:
    voices: tuple[str, ...]  # each has a start token
    units: tuple[str, ...]  # phones and boundaries, in the order of their ids
    num_codes: int  # semantic codes
    # Where equal codes in a row are one: each code is followed by how long it lasts, up to so many frames. 0: every frame has
    # a code of its own.
    num_runs: int = 0

    @property
    def size(self) -> int:
        return self.first_run + self.num_runs

    @property
    def first_unit(self) -> int:
        return NUM_CONTROLS + len(self.voices)

    @property
    def first_code(self) -> int:
        return self.first_unit + len(self.units)

    @property
    def first_run(self) -> int:
        """The id that says "one frame long"."""
        return self.first_code + self.num_codes

    def stream(self, codes: Iterable[int]) -> list[int]:
        """Codes of all frames -> speech ids that say them, each followed by its length where ``num_runs`` is set."""
        if not self.num_runs:
            return [self.first_code + int(code) for code in codes]
        ids: list[int] = []
        for code, frames in groupby(int(code) for code in codes):
            left = sum(1 for _ in frames)
            while left:
                lasts = min(left, self.num_runs)
                ids += [self.first_code + code, self.first_run + lasts - 1]
                left -= lasts
        return ids

    def voice_id(self, voice: str) -> int:
        if voice not in self.voices:
            raise VoicegraftError(f"no voice {voice!r}; this model speaks as: {', '.join(self.voices)}")
        return NUM_CONTROLS + self.voices.index(voice)

    @cached_property
    def unit_index(self) -> dict[str, int]:
        """Unit -> 0, 1, 2 ...; its token id is ``first_unit`` more."""
        return {unit: i for i, unit in enumerate(self.units)}
