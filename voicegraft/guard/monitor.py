"""Watches speech while it is being made: which unit of the text is being said, and whether that is what should be said.

The monitor trusts nothing but the semantic tokens. A small recogniser tells the phones that they sound like; a hidden Markov
model over the units of the text, extended frame by frame, tells where in the text that is. Beside the paths that go through
the text in order it follows those that jump, to any place in the text or out of it. When such a path explains the tokens
better, speech has jumped: back is a repeat, ahead is a skip, out of the text is noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voicegraft.text.units import BOUNDARIES, START, UNIT_CLASS

if TYPE_CHECKING:  # following speech needs no torch
    from voicegraft.guard.recognizer import UnitRecognizer

REPEAT, SKIP, NOISE, STALL, RUNAWAY, TRUNCATION = "repeat", "skip", "noise", "stall", "runaway", "truncation"
SLOWEST = 2.0  # times the mean length: a whole sentence may be said slowly, as lists of digits are
END_FRAMES = 45  # of silence after the text, at most
JUMPS = (REPEAT, SKIP, NOISE)
FAULTS = (REPEAT, SKIP, NOISE, STALL, RUNAWAY, TRUNCATION)


@dataclass(frozen=True)
class Sensitivity:
    """When the monitor calls something a fault; chosen on good and on spoilt speech (docs/guard.md)."""

    jump: float = 24.0  # nats that a jump has to explain better than the text in order
    jump_units: int = 3  # units that speech has been at since, in order: one wrong phone is no jump
    likeness: float = 0.6  # nats that the place which it jumped to may cost, per frame
    noise_frames: int = 15  # the same of noise, in frames
    ending: float = 12.0  # nats by which the end of the text may lie behind, when the tokens end
    noise: float = 2.0  # nats below the best phone, per frame, that sound out of the text is worth
    floor: float = 8.0  # nats below the best phone are not counted further: one odd token proves little
    deviations: float = 8.0  # standard deviations of the voice's own pace that a sentence may take longer still


@dataclass(frozen=True)
class Fault:
    kind: str  # one of FAULTS
    frame: int  # where it began
    unit: int  # of the text, which was being said there
    seen_at: int  # frames that had been made when it was found


class Monitor:
    """Follows one sentence. ``push`` takes the tokens as they come and answers with the first fault, if there is one."""

    def __init__(
        self,
        recognizer: UnitRecognizer,
        units: Sequence[str],
        voice: str,
        sensitivity: Sensitivity | None = None,
    ):
        """
        Args:
            units: what is to be said: ``^``, then the phones of each word followed by a boundary.
            voice: whose pace is expected; for a voice without one, nothing is too long.
        """
        self.recognizer, self.units = recognizer, units
        self.sensitivity = sensitivity or Sensitivity()
        self.num_read = 0  # frames that the paths have been extended by
        self.budget = math.inf  # frames that the sentence may take
        self._classes = np.array([UNIT_CLASS[unit] for unit in units])
        silent = np.array([unit == START or unit in BOUNDARIES for unit in units])
        # Whether a unit may follow the one before the last: boundaries may be empty.
        self._over = np.concatenate([[False, False], silent[1:-1]])
        self._ends = [n for n in (len(units) - 2, len(units) - 1) if silent[n + 1 :].all()]
        self._longest = np.full(len(units), math.inf)
        for pace in recognizer.config.pace:
            if pace.voice == voice:
                rows = [recognizer.config.units.index(unit) for unit in units]
                mean, variance = np.array(pace.mean)[rows].sum(), np.array(pace.variance)[rows].sum()
                self.budget = SLOWEST * mean + self.sensitivity.deviations * math.sqrt(variance)
                self._longest = np.array(pace.longest)[rows]
                self._longest[-1] = min(self._longest[-1], END_FRAMES)
        self._tokens: list[int] = []
        # Log-probabilities of the best path that has come to each unit: in order, and after one jump.
        self._clean = np.full(len(units), -np.inf)
        self._clean[:2] = 0.0  # the silence before may be empty, too
        self._jumped = np.full(len(units), -np.inf)
        self._entered = np.zeros(len(units), dtype=np.int64)  # when the path in order came to each unit
        # Of each path that jumped: the frame, the unit that it left, the one that it entered, and units since.
        self._origin = np.zeros((len(units), 4), dtype=np.int64)
        self._worth = np.zeros(len(units))  # of each path that jumped, right after its jump
        self._noise = -np.inf  # of the best path that has left the text
        self._noise_origin = (0, 0)
        self._steps: list[np.ndarray] = []  # at each frame, how many units each path in order went on

    def push(self, tokens: Sequence[int], ended: bool = False) -> Fault | None:
        """Reads on. The last tokens wait for those that the recogniser sees after a frame, unless the sentence has ended."""
        self._tokens += tokens
        limit = len(self._tokens) - (0 if ended else self.recognizer.config.after)
        if limit > self.num_read:
            for scores in self._scores(self.num_read, limit):
                self._extend(scores)
                fault = self._jumped_away() or self._too_long()
                if fault is not None:
                    return fault
        return self._unfinished() if ended else None

    @property
    def num_pushed(self) -> int:
        return len(self._tokens)

    @property
    def all_said(self) -> bool:
        """Whether speech has come to the end of the text."""
        return int(self._clean.argmax()) in self._ends

    def starts(self, frame: int, unit: int) -> list[int]:
        """First frame of each unit up to ``unit``, on the path in order that is there at ``frame``.

        An empty boundary starts where the unit after it does.
        """
        starts = [0] * (unit + 1)
        for t in range(frame, -1, -1):
            step = int(self._steps[t][unit]) if t else unit
            for passed in range(step):
                starts[unit - passed] = t
            unit -= step
        return starts

    def forget_jumps(self) -> None:
        """Takes what has been read as right: forgets all jumps, and how long a unit has lasted."""
        self._jumped[:] = -np.inf
        self._noise = -np.inf
        self._entered[:] = self.num_read

    def _scores(self, first: int, limit: int) -> np.ndarray:
        """Log-probability of each unit's class below the best class's, ``[limit - first, num_units]``."""
        c, nothing = self.recognizer.config, self.recognizer.nothing
        begin, end = first - c.before, limit + c.after
        seen = self._tokens[max(0, begin) : end]
        padded = [nothing] * max(0, -begin) + seen
        padded += [nothing] * (end - begin - len(padded))
        logits = self.recognizer.logits(np.array(padded))
        return np.maximum(logits - logits.max(1, keepdims=True), -self.sensitivity.floor)[:, self._classes]

    def _extend(self, scores: np.ndarray) -> None:
        """One frame more, with the ``scores`` of all units ``[num_units]``."""
        frame, clean = self.num_read, self._clean
        self.num_read += 1
        if not frame:
            self._clean = clean + scores
            self._steps.append(np.zeros(len(clean), dtype=np.int8))
            return
        best = int(clean.argmax())
        leaving = clean[best] - self.sensitivity.jump
        if leaving > self._noise:
            self._noise, self._noise_origin = leaving, (frame, best)
        self._noise -= self.sensitivity.noise
        positions = np.arange(len(clean))
        ways, step = _ways(self._jumped, self._over)
        lands = ways < leaving
        self._origin, self._worth = self._origin[positions - step], self._worth[positions - step]
        self._origin[:, 3] += step > 0
        for column, value in enumerate((frame, best, positions[lands], 1)):
            self._origin[lands, column] = value
        self._worth[lands] = leaving
        self._jumped = np.maximum(ways, leaving) + scores
        ways, step = _ways(clean, self._over)
        self._clean = ways + scores
        self._entered = np.where(step, frame, self._entered)
        self._steps.append(step.astype(np.int8))

    def _jumped_away(self) -> Fault | None:
        """The fault, if a path that jumped explains the tokens better by now than all paths in order."""
        s = self.sensitivity
        since = self.num_read - self._origin[:, 0]
        sure = (self._origin[:, 3] >= s.jump_units) & (self._worth - self._jumped <= s.likeness * since)
        jumped = np.where(sure, self._jumped, -np.inf)
        to, noise = int(jumped.argmax()), self._noise
        if self.num_read - self._noise_origin[0] < s.noise_frames:
            noise = -np.inf
        if max(jumped[to], noise) <= self._clean.max():
            return None
        frame, left, entered, _ = (int(n) for n in self._origin[to])
        kind = REPEAT if entered <= left else SKIP
        if noise > jumped[to]:
            (frame, left), kind = self._noise_origin, NOISE
        return Fault(kind, frame, left, len(self._tokens))

    def _too_long(self) -> Fault | None:
        unit = int(self._clean.argmax())
        since = int(self._entered[unit])
        if self.num_read - since > self._longest[unit]:
            kind = RUNAWAY if unit in self._ends else STALL
            return Fault(kind, since, unit, len(self._tokens))
        if self.num_read > self.budget:
            return Fault(RUNAWAY, self.num_read - 1, unit, len(self._tokens))
        return None

    def _unfinished(self) -> Fault | None:
        if self.num_read and self._clean.max() - self._clean[self._ends].max() <= self.sensitivity.ending:
            return None
        return Fault(TRUNCATION, max(0, self.num_read - 1), int(self._clean.argmax()), len(self._tokens))


def _ways(scores: np.ndarray, over: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best score from which each unit can go on, its own or that of one before it; and how many units before."""
    one, two = np.full_like(scores, -np.inf), np.full_like(scores, -np.inf)
    one[1:] = scores[:-1]
    two[2:] = np.where(over[2:], scores[:-2], -np.inf)
    ways = np.maximum(np.maximum(scores, one), two)
    return ways, np.where(ways == scores, 0, np.where(ways == one, 1, 2))
