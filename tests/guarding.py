"""A recogniser that is always right, and decoders that say what they are told: for tests of the guard."""

from collections.abc import Callable, Iterator, Sequence

import torch

from voicegraft.guard.guarded import SpokenUnit
from voicegraft.guard.recognizer import MonitorConfig, UnitRecognizer, VoicePace
from voicegraft.text.units import NUM_CLASSES, UNIT_CLASS, UNITS

# "We see two owls. Go!", as the lexicon would have it.
SENTENCE = ("^", "w", "iy", "|", "s", "iy", "|", "t", "uw", "|", "aw", "l", "z", ".", "g", "ow", "!")


def oracle(after: int = 0, pace: bool = False) -> UnitRecognizer:
    """Semantic token k is phone class k, and it knows."""
    paces = VoicePace("ann", (4.0,) * len(UNITS), (4.0,) * len(UNITS), (30,) * len(UNITS))
    config = MonitorConfig("oracle", NUM_CLASSES, UNITS, 0, after, NUM_CLASSES, NUM_CLASSES, (paces,) if pace else ())
    model = UnitRecognizer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.token.weight[:NUM_CLASSES] = 10 * torch.eye(NUM_CLASSES)
        model.enter.weight[:, :NUM_CLASSES] = torch.eye(NUM_CLASSES)
        model.leave.weight.copy_(torch.eye(NUM_CLASSES))
    return model.eval()


def said(units: Sequence[str], num_frames: int = 4) -> list[int]:
    """Tokens of units that all last as long, but for empty boundaries inside."""
    return [UNIT_CLASS[unit] for unit in units for _ in range(0 if unit == "|" else num_frames)]


class Scripted:
    """Says its units in order, but takes the plan of each try from a script: positions in ``units``, or noise where None.

    After the script each try is ``then(unit)``, where ``unit`` is what the try is to begin with.
    """

    then: Callable[[int], Sequence[int | None]]

    def __init__(self, units: Sequence[str], tries: Sequence[Sequence[int | None]], num_frames: int = 4):
        self.then = lambda unit: range(unit, len(units))
        self.units, self.spoken = list(units), [SpokenUnit(units[0], 0)]
        self.plans, self.num_frames = iter(tries), num_frames
        self.plan: Sequence[int | None] = next(self.plans)
        self.rewound: list[tuple[int, int, float]] = []
        self.on_token: Callable[[int], object] = lambda num_tokens: None
        self.num_tokens = 0

    def __iter__(self) -> Iterator[int]:
        for position in self.plan:
            unit = "zh" if position is None else self.units[position]
            for token in said([unit], self.num_frames):
                self.num_tokens += 1
                self.on_token(self.num_tokens)
                yield token

    def rewind(self, num_frames: int, unit: int, temperature: float) -> None:
        self.rewound.append((num_frames, unit, temperature))
        self.num_tokens = num_frames
        later = next(self.plans, None)
        self.plan = self.then(unit) if later is None else later
