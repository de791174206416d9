"""The contract of a decoder: the backbone with its experts, at work on many sequences at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from voicegraft.fusion.mole import Routing

# An expert's name, weights [E] or [num_layers, E], a router at work, or the bare backbone.
SequenceGates = str | Tensor | Routing | None


class DecoderState(Protocol):
    """What is kept of one sequence; belongs to the decoder that made it."""

    gates: SequenceGates

    @property
    def crops(self) -> bool:
        """Whether forgetting positions costs next to nothing: then some may be read on trial."""
        ...


class Decoder(Protocol):
    """Embeddings in, last hidden states out, in tensors; what is read stays in a state, one for each sequence.

    The sequences of a step may stand at different positions, have other gates each and read more or fewer positions; what
    comes out for one does not depend on the others.
    """

    def start(self, gates: SequenceGates) -> Any:
        """The state before the first position."""
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
