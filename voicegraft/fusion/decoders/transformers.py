"""Decoding through transformers, whatever the architecture, the gates and the routing."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from voicegraft.fusion.decoders.base import SequenceGates, by_groups
from voicegraft.fusion.mole import MoLE
from voicegraft.fusion.router import RouterState


@dataclass(frozen=True)
class FixedRouting:
    """Gates ``[num_layers, E]`` that stay the same at all positions."""

    gates: Tensor

    def at(self, layer: int, hidden: Tensor) -> Tensor:
        return self.gates[layer]


@dataclass
class TransformersState:
    gates: SequenceGates
    cache: DynamicCache = field(default_factory=DynamicCache)  # whole, also where the model looks through a window
    read: list[Tensor] = field(default_factory=list)  # embeddings, where a router remembers them

    @property
    def crops(self) -> bool:
        return not isinstance(self.gates, RouterState)


class TransformersDecoder:
    """Runs sequences of the same gates in one call, the caches side by side; routed ones run one by one."""

    def __init__(self, mole: MoLE, inner: Any = None):
        """
        Args:
            inner: what of the backbone runs (``fusion.depth``); None: all of it.
        """
        self.mole = mole
        self.inner: Any = inner or mole.backbone.base_model
        self._pads = "position_ids" in inspect.signature(self.inner.forward).parameters

    def start(self, gates: SequenceGates) -> TransformersState:
        return TransformersState(gates)

    def step(
        self, inputs: Sequence[Tensor], states: Sequence[TransformersState], gates: SequenceGates | None = None
    ) -> list[Tensor]:
        chosen = [state.gates if gates is None else gates for state in states]
        keys: list[str | int | None] = []  # by expert; None for any mixtures; alone by number
        for number, (own, state) in enumerate(zip(chosen, states, strict=True)):
            one = not self._pads or not state.cache.get_seq_length() or not _broadcasts(own)
            keys.append(number if one else own if isinstance(own, str) else None)

        def run(numbers: list[int]) -> list[Tensor]:
            together: Any = chosen[numbers[0]]
            if keys[numbers[0]] is None:
                together = torch.stack([chosen[number] for number in numbers])[:, None]  # type: ignore[misc]
            elif isinstance(together, Tensor) and together.ndim == 2:
                together = FixedRouting(together)
            with self.mole.gated(together):
                return self._run([inputs[n].to(self.inner.dtype) for n in numbers], [states[n] for n in numbers])

        return by_groups(keys, run)

    def crop(self, state: TransformersState, num_positions: int) -> None:
        if not isinstance(state.gates, RouterState):
            state.cache.crop(-num_positions)
            return
        # A router of tokens does not know what it remembered before: the sequence runs again.
        kept = torch.cat(state.read)[: -num_positions or None]
        state.gates, state.cache, state.read = state.gates.router.start(), DynamicCache(), []
        self.step([kept], [state])

    def _run(self, inputs: Sequence[Tensor], states: Sequence[TransformersState]) -> list[Tensor]:
        if len(states) == 1:
            (state,) = states
            if not state.crops:
                state.read.append(inputs[0])
            out = self.inner(inputs_embeds=inputs[0][None], past_key_values=state.cache, use_cache=True)
            return [out.last_hidden_state[0]]
        past = torch.tensor([state.cache.get_seq_length() for state in states])
        sizes = [len(x) for x in inputs]
        longest, widest = int(past.max()), max(sizes)
        cache = DynamicCache()
        for layer in range(len(states[0].cache.layers)):
            layers: list[Any] = [state.cache.layers[layer] for state in states]
            keys, values = (
                torch.stack([F.pad(rows, (0, 0, longest - rows.shape[1], 0)) for rows in side])
                for side in zip(*((each.keys[0], each.values[0]) for each in layers), strict=True)
            )
            cache.update(keys, values, layer)
        place = torch.arange(longest + widest)
        mask = (place >= (longest - past)[:, None]) & (place < longest + torch.tensor(sizes)[:, None])
        device = inputs[0].device
        out = self.inner(
            inputs_embeds=pad_sequence(list(inputs), batch_first=True),
            past_key_values=cache,
            attention_mask=mask.long().to(device),
            position_ids=(torch.arange(widest) + past[:, None]).to(device),
            use_cache=True,
        )
        for number, (state, size) in enumerate(zip(states, sizes, strict=True)):
            grown: Any
            for layer, grown in enumerate(cache.layers):
                new = slice(number, number + 1), slice(None), slice(longest, longest + size)
                state.cache.update(grown.keys[new], grown.values[new], layer)
        return [found[:size] for found, size in zip(out.last_hidden_state, sizes, strict=True)]


def _broadcasts(gates: SequenceGates) -> bool:
    """Whether sequences of such gates can share a call."""
    return isinstance(gates, str) or (isinstance(gates, Tensor) and gates.ndim == 1)
