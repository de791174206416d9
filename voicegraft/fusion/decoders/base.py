"""The contract of a decoder: the backbone with its experts, at work on many sequences at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

from torch import Tensor

from voicegraft.fusion.mole import Routing

# An expert's name, weights [E] or [num_layers, E], a router at work, or the bare backbone.
SequenceGates = str | Tensor | Routing | None


class Decoder(Protocol):
    """Embeddings in, last hidden states out, in tensors; what is read stays in a state, one for each sequence.

    The sequences of a step may stand at different positions, have other gates each and read more or fewer positions; what
    comes out for one does not depend on the others.
    """

    def start(self, gates: SequenceGates) -> Any:
        """The state of one sequence before its first position; it belongs to the decoder that made it.

        Its ``gates`` are these, and ``crops`` is true where forgetting positions costs next to nothing: then some may be
        read on trial.
        """
        ...

    def step(self, inputs: Sequence[Tensor], states: Sequence[Any], gates: SequenceGates | None = None) -> list[Tensor]:
        """Embeddings ``[T, D]`` of each sequence's next positions -> last hidden states ``[T, D]``; extends the states.

        Args:
            gates: hold for these positions in place of the sequences' own, if given.
        """
        ...

    def crop(self, state: Any, num_positions: int) -> None:
        """Forgets the last positions."""
        ...


def by_groups(keys: Sequence[Hashable], run: Callable[[list[int]], Sequence[Tensor]]) -> list[Tensor]:
    """Runs the sequences of each key in one call, given by their numbers -> what comes out for all, in their order."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for number, key in enumerate(keys):
        groups[key].append(number)
    found = {n: out for numbers in groups.values() for n, out in zip(numbers, run(numbers), strict=True)}
    return [found[number] for number in range(len(keys))]
