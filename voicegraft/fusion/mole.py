"""Mixture of LoRA experts (MoLE): one frozen backbone, any number of experts, gates that weigh them.

Every adapted linear layer computes

    W x + sum_i g_i s_i B_i A_i x

with all experts as one low-rank product: A stacks the experts' A, the gates scale its rows, B stacks the experts' B. The whole
model stays one cached pass; PEFT's X-LoRA needs two passes and no cache for the same sum.

Gates are given for a ``with`` block, per thread and task, so streams with different gates share one model:

    mole = MoLE(backbone, {"text": None, "speech": Expert.load(folder)})
    backbone(ids)                        # the untouched backbone, bit for bit
    with mole.gated("speech"):           # one expert alone, exactly as PEFT computes it
        backbone(ids)
    with mole.gated(weights):            # [B, T, E]: any mixture, another one at every position
        backbone(ids)
    with mole.gated(router.start()):     # a learned mixture, worked out while the sequence passes (fusion/router.py)
        backbone(ids)

An expert that is ``None`` is the identity and costs nothing. The fused layer follows Mixture of LoRA Experts
(Wu et al. 2024, arXiv 2404.13628) with the gates outside of the layers, as MoLE-Llama (arXiv 2410.20336) routes by input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from voicegraft.core.errors import VoicegraftError
from voicegraft.fusion.depth import decoder_layers
from voicegraft.fusion.experts import Expert, LowRank

Gates = int | Tensor | None  # one expert alone, weights [..., E] of all, or the bare backbone


class Routing(Protocol):
    """Works gates out while a sequence passes; holds what it must remember of it."""

    def at(self, layer: int, hidden: Tensor) -> Gates:
        """The gates of a decoder layer whose input is ``hidden`` ``[B, T, D]``; called layer by layer."""


class _Slot:
    """Where the gates of a model stand while it runs: per thread and task."""

    def __init__(self, identities: frozenset[int]) -> None:
        self.gates: ContextVar[int | _Weights | None] = ContextVar("gates", default=None)
        self.routing: ContextVar[Routing | None] = ContextVar("routing", default=None)
        self.identities = identities  # numbers of the experts that do nothing

    def put(self, gates: Gates) -> Token[int | _Weights | None]:
        """Sets the gates as the layers take them; weights that stand there already stay, with what was made of them."""
        ready: int | _Weights | None
        if isinstance(gates, Tensor):
            before = self.gates.get()
            ready = before if isinstance(before, _Weights) and before.weights is gates else _Weights(gates)
        else:
            ready = None if gates in self.identities else gates
        return self.gates.set(ready)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Slot:
        return memo.setdefault(id(self), _Slot(self.identities))


class _Weights:
    """Weights ``[..., E]`` of all experts, spread over the rows of a layer's low-rank product.

    Most layers have the same experts of the same ranks, so decoding spreads them once and not in every layer. While
    gradients are recorded nothing is kept: every backward needs a graph of its own.
    """

    def __init__(self, weights: Tensor):
        self.weights = weights
        self._spread: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def over(self, layer: MoleLinear, x: Tensor) -> Tensor:
        """``[..., sum of ranks]`` in the type and on the device of the layer's input."""
        if torch.is_grad_enabled():
            return self.weights.to(x)[..., layer.owners]
        key = (layer.pattern, x.dtype, x.device)
        spread = self._spread.get(key)
        if spread is None:
            spread = self._spread[key] = self.weights.to(x)[..., layer.owners]
        return spread


class _AskRouter:
    """A decoder layer's forward that asks first; a forward hook would cost more than the question."""

    def __init__(self, block: nn.Module, slot: _Slot, layer: int):
        self.run, self.slot, self.layer = block.forward, slot, layer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        routing = self.slot.routing.get()
        if routing is not None:
            self.slot.put(routing.at(self.layer, args[0] if args else kwargs["hidden_states"]))
        return self.run(*args, **kwargs)


class MoleLinear(nn.Module):
    """The low-rank experts beside a linear layer; ``None`` where an expert leaves this layer alone.

    It is a child of the layer, ``layer.mole``, and answers in its place. A module around the layer would be simpler, but a
    small model's step would feel the calls: 4 % of the pocket backbone's.
    """

    down: Tensor  # [sum of ranks, in]
    up: Tensor  # [out, sum of ranks]
    mix: Tensor  # [sum of ranks, out], scaled: at one position this order of a narrow matrix takes a third of the time
    owners: Tensor  # [sum of ranks] the expert that a row belongs to

    def __init__(self, base: nn.Linear, experts: Sequence[LowRank | None], slot: _Slot, layer: int, dtype: torch.dtype):
        super().__init__()
        self.product = base.forward
        # What an ordinary layer's forward computes, without the time that it takes to find its parameters.
        self.parameters_of = base._parameters if type(base) is nn.Linear and "forward" not in vars(base) else None
        self.slot = slot
        self.layer = layer  # of the decoder
        device = base.weight.device
        present = [(i, expert) for i, expert in enumerate(experts) if expert is not None]
        ranks = [len(expert.down) for _, expert in present]
        self.register_buffer("down", torch.cat([e.down for _, e in present]).to(device, dtype), persistent=False)
        self.register_buffer("up", torch.cat([e.up for _, e in present], 1).to(device, dtype), persistent=False)
        owners = torch.tensor([i for i, _ in present]).repeat_interleave(torch.tensor(ranks)).to(device)
        self.register_buffer("owners", owners, persistent=False)
        mix = torch.cat([e.up.T * e.scale for _, e in present]).to(device, dtype)
        self.register_buffer("mix", mix, persistent=False)
        self.pattern = " ".join(f"{i}x{rank}" for (i, _), rank in zip(present, ranks, strict=True))
        # Alone, an expert is computed from its own matrices, in PEFT's order: the same numbers to the last bit.
        self.alone: dict[int, tuple[slice, float]] = {}
        begin = 0
        for (i, expert), rank in zip(present, ranks, strict=True):
            self.alone[i] = (slice(begin, begin + rank), expert.scale)
            begin += rank
        base.mole = self
        base.forward = self.forward  # type: ignore[method-assign, assignment]

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in]`` -> ``[..., out]`` under the gates of the running ``gated`` block."""
        own = self.parameters_of
        out = self.product(x) if own is None else F.linear(x, own["weight"], own["bias"])  # type: ignore[arg-type]
        gates = self.slot.gates.get()
        if gates is None:
            return out
        if isinstance(gates, int):
            only = self.alone.get(gates)
            if only is None:
                return out
            rows, scale = only
            return out + F.linear(F.linear(x, self.down[rows]), self.up[:, rows]) * scale
        return out + (F.linear(x, self.down) * gates.over(self, x)) @ self.mix

    def merged(self, weight: Tensor, gates: Tensor) -> Tensor:
        """The layer's own weight -> the one matrix ``[out, in]`` that does the same under gates ``[E]``."""
        return weight + (self.mix.T * gates.to(weight)[self.owners]) @ self.down


class MoLE:
    """A backbone whose linear layers carry experts. Building it changes the backbone's layers, never their weights."""

    def __init__(self, backbone: PreTrainedModel, experts: Mapping[str, Expert | None]):
        """Puts the experts on the backbone.

        Args:
            experts: name -> adapter, or None for the identity; the order is that of the gates.

        Raises:
            VoicegraftError: an expert names a module that the backbone lacks, or has other shapes there.
        """
        if not experts:
            raise VoicegraftError("expected at least one expert; None stands for the identity")
        self.backbone = backbone
        self.names = tuple(experts)
        self.identities = frozenset(name for name, expert in experts.items() if expert is None)
        self._slot = _Slot(frozenset(i for i, expert in enumerate(experts.values()) if expert is None))
        modules = dict(backbone.named_modules())
        adapted = {name for expert in experts.values() if expert is not None for name in expert.layers}
        blocks = decoder_layers(backbone)
        dtype = backbone.dtype  # that of a quantised layer's weight is not what it computes in
        for name in sorted(adapted):
            base = modules.get(name)
            if not isinstance(base, nn.Linear):
                found = "no such module" if base is None else type(base).__name__
                raise VoicegraftError(
                    f"an expert adapts {name}, where this backbone has {found}: it was trained for another backbone"
                )
            if hasattr(base, "mole"):
                raise VoicegraftError(
                    "this backbone has experts already: give MoLE all of them, on a backbone loaded anew"
                )
            parts = [None if expert is None else expert.layers.get(name) for expert in experts.values()]
            for expert_name, part in zip(experts, parts, strict=True):
                shape = None if part is None else (part.up.shape[0], part.down.shape[1])
                if shape is not None and shape != (base.out_features, base.in_features):
                    raise VoicegraftError(
                        f"the expert {expert_name!r} expects {name} to be {shape[0]} x {shape[1]}, this backbone's is "
                        f"{base.out_features} x {base.in_features}: it was trained for another backbone"
                    )
            layer = next((i for i, block in enumerate(blocks) if name.startswith(f"{block}.")), 0)
            MoleLinear(base, parts, self._slot, layer, dtype)
        self.num_layers = len(blocks)
        for i, block in enumerate(blocks):
            modules[block].forward = _AskRouter(modules[block], self._slot, i)

    @contextmanager
    def gated(self, gates: str | Tensor | Routing | None) -> Iterator[None]:
        """The gates of every forward (and backward) in the block.

        Args:
            gates: an expert's name (it alone acts), weights ``[E]``, ``[B, 1, E]`` or ``[B, T, E]`` that broadcast over the
                positions of a forward, what a router works out, or None for the bare backbone.

        Raises:
            VoicegraftError: no such expert, or weights for another number of experts.
        """
        chosen: Gates = None
        routing: Routing | None = None
        if isinstance(gates, str):
            if gates not in self.names:
                raise VoicegraftError(f"no expert {gates!r}; there are: {', '.join(self.names)}")
            chosen = self.names.index(gates)
        elif isinstance(gates, Tensor):
            if gates.shape[-1:] != (len(self.names),):
                raise VoicegraftError(
                    f"expected weights of {len(self.names)} experts ({', '.join(self.names)}), got {tuple(gates.shape)}"
                )
            chosen = gates
        else:
            routing = gates
        tokens = self._slot.put(chosen), self._slot.routing.set(routing)
        try:
            yield
        finally:
            self._slot.gates.reset(tokens[0])
            self._slot.routing.reset(tokens[1])

    def layers(self) -> Iterator[tuple[str, MoleLinear]]:
        """The fused layers' experts by the layers' names in the backbone."""
        return ((n.removesuffix(".mole"), m) for n, m in self.backbone.named_modules() if isinstance(m, MoleLinear))

    def merged(self, gates: str | Tensor) -> Callable[[nn.Module], Tensor]:
        """Linear layer -> its weight with the experts folded in, for gates that stay the same over a whole sequence.

        Args:
            gates: an expert's name, or weights ``[E]`` or ``[num_layers, E]``.
        """
        if isinstance(gates, str):
            weights = torch.tensor([float(name == gates) for name in self.names])
        else:
            weights = gates.detach()

        def weight_of(module: nn.Module) -> Tensor:
            own, experts = cast(Tensor, module.weight), getattr(module, "mole", None)
            if experts is None:
                return own
            return experts.merged(own, weights if weights.ndim == 1 else weights[experts.layer])

        return weight_of
