"""What a teacher is: something that says a text in one of its voices, always the same way for the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Unsayable(Exception):
    """The teacher cannot say this text, though it may say others; the message is the reason."""


@dataclass(frozen=True, eq=False)
class Said:
    """Speech, and what was said when, where the teacher knows."""

    samples: np.ndarray  # float32 [T] in [-1, 1]
    units: tuple[str, ...] = ()  # as in `voicegraft.text.units`
    unit_ends_sec: tuple[float, ...] = ()  # seconds from the start, one per unit
    phones: tuple[str, ...] = ()  # symbols of the teacher's own, where it does not know units
    phone_ends_sec: tuple[float, ...] = ()  # seconds from the start, one per phone


class Teacher(Protocol):
    """Opening one is cheap, as its voices are asked for before anything is said; ``say`` loads what it needs."""

    @property
    def name(self) -> str:
        """Whose speech it is; clips of two names are not mixed in a folder."""

    @property
    def licence(self) -> str:
        """Of the teacher, and so what holds for its speech."""

    @property
    def voices(self) -> tuple[str, ...]: ...

    @property
    def sample_rate(self) -> int:
        """Hz."""

    @property
    def has_speed(self) -> bool:
        """Whether it can speak at another speed than 1."""

    def say(self, text: str, voice: str, speed: float, seed: int) -> Said:
        """Says a text.

        Args:
            text: in spoken form.
            speed: 1 is the voice's own, 2 twice as fast.
            seed: the same text, voice, speed and seed give the same samples; most teachers have no use for it.

        Raises:
            Unsayable: this text cannot be said.
            VoicegraftError: nothing can be.
        """
