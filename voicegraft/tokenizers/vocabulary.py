"""The speech vocabulary: control tokens, one start token per voice, pronunciation units, semantic codes.

It is an id space of its own, beside the backbone's: no text id ever moves, and no text softmax grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from voicegraft.core.errors import VoicegraftError

SAY = 0  # the pronunciation is complete, speaking begins
ADVANCE = 1  # the next unit begins
HIDDEN = 2  # stands for a code that training does not show
NUM_CONTROLS = 3


@dataclass(frozen=True)
class SpeechVocabulary:
    voices: tuple[str, ...]  # each has a start token
    units: tuple[str, ...]  # phones and boundaries, in the order of their ids
    num_codes: int  # semantic codes

    @property
    def size(self) -> int:
        return NUM_CONTROLS + len(self.voices) + len(self.units) + self.num_codes

    @property
    def first_unit(self) -> int:
        return NUM_CONTROLS + len(self.voices)

    @property
    def first_code(self) -> int:
        return self.first_unit + len(self.units)

    def voice_id(self, voice: str) -> int:
        if voice not in self.voices:
            raise VoicegraftError(f"no voice {voice!r}; this model speaks as: {', '.join(self.voices)}")
        return NUM_CONTROLS + self.voices.index(voice)

    @cached_property
    def unit_index(self) -> dict[str, int]:
        """Unit -> 0, 1, 2 ...; its token id is ``first_unit`` more."""
        return {unit: i for i, unit in enumerate(self.units)}
