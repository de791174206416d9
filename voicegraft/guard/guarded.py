"""Keeps speech to its text: tokens are watched before they are rendered, and what went wrong is said again.

The guard stands between the model that says the semantic tokens and everything that makes sound of them. It hands a token on
when the look-ahead after it has been made and no fault has shown. What was handed on is never taken back: a retry goes on from
there, or from the beginning of the word in which the fault began, if that has not been heard yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from voicegraft.core.errors import VoicegraftError
from voicegraft.guard.monitor import JUMPS, Fault, Monitor, Sensitivity
from voicegraft.text.units import BOUNDARIES, START

if TYPE_CHECKING:
    from voicegraft.guard.recognizer import UnitRecognizer

MODES = ("on", "watch", "off")
HOLD_AFTER = 4  # frames handed on for each frame of look-ahead more: the first sound does not wait


@dataclass(frozen=True)
class GuardPolicy:
    """How speech is watched, and what is done about a fault."""

    mode: str = "on"  # on; watch: only report; off
    retries: tuple[float, ...] = (0.4, 0.1, 0.8)  # temperature of the semantic tokens in each further try of a sentence
    hold_frames: int = 20  # frames beyond a frame, and beyond the acoustic LM's look-ahead, that decide about it
    sensitivity: Sensitivity = field(default_factory=Sensitivity)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise VoicegraftError(f"the guard's mode is one of {', '.join(MODES)}, got {self.mode!r}")
        if self.hold_frames < 0 or any(temperature < 0 for temperature in self.retries):
            raise VoicegraftError(
                f"the guard's hold_frames and retry temperatures are 0 or more, got {self.hold_frames} and {self.retries}"
            )


class SpeechFailure(VoicegraftError):
    """A text, or a part of it, could not be said as it should be."""


@dataclass
class SpokenUnit:
    """A unit that a model says it has said."""

    unit: str
    start_frame: int
    num_frames: int = 0


class RewindableTokens(Protocol):
    """What the guard asks of a model that says one sentence."""

    @property
    def units(self) -> list[str]: ...  # known when the first token is

    @property
    def spoken(self) -> list[SpokenUnit]: ...  # grows with the tokens

    def __iter__(self) -> Iterator[int]: ...

    def rewind(self, num_frames: int, unit: int, temperature: float) -> None:
        """Keeps the first ``num_frames`` tokens; the next iteration goes on after them, with the beginning of ``unit``."""


class GuardedTokens:
    """The tokens of one sentence that may be rendered; iterating runs the model.

    ``faults`` are all that were found; ``failed`` is the one that no retry has mended: the sentence ends before it.
    """

    def __init__(self, tokens: RewindableTokens, recognizer: UnitRecognizer, voice: str, policy: GuardPolicy):
        self.tokens, self.recognizer, self.voice, self.policy = tokens, recognizer, voice, policy
        self.faults: list[Fault] = []
        self.failed: Fault | None = None
        self.num_retries = 0
        self.num_frames = 0  # that were handed on

    @property
    def unmended(self) -> list[Fault]:
        """The faults that can be heard."""
        if self.policy.mode == "watch":
            return self.faults
        return [] if self.failed is None else [self.failed]

    @property
    def spoken(self) -> list[SpokenUnit]:
        """The units whose frames were handed on."""
        inside = [unit for unit in self.tokens.spoken if unit.start_frame <= self.num_frames]
        return [replace(unit, num_frames=min(unit.num_frames, self.num_frames - unit.start_frame)) for unit in inside]

    def __iter__(self) -> Iterator[int]:
        watching = self.policy.mode == "watch"
        source = iter(self.tokens)
        kept: list[int] = []
        monitor: Monitor | None = None
        ready, ended = 0, False
        while not ended:
            token = next(source, None)
            if monitor is None and not self.faults:
                monitor = self._monitor()
            kept += [] if token is None else [token]
            ended = token is None
            hold = 0 if ended or watching else min(self.policy.hold_frames, self.num_frames // HOLD_AFTER)
            ready = max(ready, len(kept) - hold)
            fault = None if monitor is None else monitor.push(kept[monitor.num_pushed :], ended)
            if fault is not None:
                assert monitor is not None
                self.faults.append(fault)
                after_text = monitor.all_said and fault.unit >= len(monitor.units) - 2
                if watching:
                    monitor = None
                elif after_text or self.num_retries == len(self.policy.retries):
                    # What comes after the text, or after a fault that nothing mends, is left out.
                    self.failed = None if after_text else fault
                    ready, ended = max(self.num_frames, fault.frame), True
                else:
                    kept, monitor = self._again(kept, monitor, fault)
                    source = iter(self.tokens)
                    ready, ended = self.num_frames, False
            for token in kept[self.num_frames : ready]:
                self.num_frames += 1
                yield token

    def _monitor(self) -> Monitor:
        return Monitor(self.recognizer, self.tokens.units, self.voice, self.policy.sensitivity)

    def _again(self, kept: list[int], monitor: Monitor, fault: Fault) -> tuple[list[int], Monitor]:
        """Rewinds the model; returns the tokens that stay, and a monitor that has read them."""
        starts = monitor.starts(fault.frame - (fault.kind in JUMPS), fault.unit)
        word = max(n for n in range(fault.unit + 1) if n == 0 or monitor.units[n - 1] in (START, *BOUNDARIES))
        for unit in (word, fault.unit):
            if starts[unit] >= self.num_frames:
                frame = starts[unit]
                break
        else:
            frame, unit = max(self.num_frames, fault.frame), min(fault.unit + 1, len(monitor.units) - 1)
        self.tokens.rewind(frame, unit, self.policy.retries[self.num_retries])
        self.num_retries += 1
        monitor = self._monitor()
        while monitor.push(kept[monitor.num_pushed : frame]):
            monitor.forget_jumps()
        monitor.forget_jumps()
        return kept[:frame], monitor
