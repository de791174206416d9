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

An expert that is ``None`` is the identity and costs nothing. The fused layer follows Mixture of LoRA Experts
(Wu et al. 2024, arXiv 2404.13628) with the gates outside of the layers, as MoLE-Llama (arXiv 2410.20336) routes by input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from voicegraft.core.errors import VoicegraftError
from voicegraft.fusion.experts import Expert, LowRank

Gates = int | Tensor | None  # one expert alone, weights [..., E] of all, or the bare backbone


@dataclass(frozen=True)
class _Slot:
    """Where the gates of a model stand while it runs."""

    gates: ContextVar[Gates]


class MoleLinear(nn.Module):
    """A linear layer with low-rank experts beside it; ``None`` where an expert leaves this layer alone."""

    down: Tensor  # [sum of ranks, in]
    up: Tensor  # [out, sum of ranks]
    owners: Tensor  # [sum of ranks] the expert that a row belongs to
    scales: Tensor  # [sum of ranks]

    def __init__(self, base: nn.Linear, experts: Sequence[LowRank | None], slot: _Slot):
        super().__init__()
        self.base = base
        self.slot = slot
        like = base.weight
        present = [(i, expert) for i, expert in enumerate(experts) if expert is not None]
        ranks = torch.tensor([len(expert.down) for _, expert in present])
        self.register_buffer("down", torch.cat([e.down for _, e in present]).to(like), persistent=False)
        self.register_buffer("up", torch.cat([e.up for _, e in present], 1).to(like), persistent=False)
        owners = torch.tensor([i for i, _ in present]).repeat_interleave(ranks).to(like.device)
        self.register_buffer("owners", owners, persistent=False)
        scales = torch.tensor([e.scale for _, e in present]).repeat_interleave(ranks).to(like)
        self.register_buffer("scales", scales, persistent=False)
        # Alone, an expert is computed from its own contiguous matrices, in PEFT's order: the same numbers to the last bit.
        self.alone = {i: LowRank(e.down.to(like), e.up.to(like), e.scale) for i, e in present}

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in]`` -> ``[..., out]`` under the gates of the running ``gated`` block."""
        out: Tensor = self.base(x)
        gates = self.slot.gates.get()
        if gates is None:
            return out
        if isinstance(gates, int):
            only = self.alone.get(gates)
            return out if only is None else out + F.linear(F.linear(x, only.down), only.up) * only.scale
        low = F.linear(x, self.down) * (gates.to(x)[..., self.owners] * self.scales)
        return out + F.linear(low, self.up)

    def _apply(self, fn, recurse: bool = True):  # type: ignore[no-untyped-def]
        super()._apply(fn, recurse)
        self.alone = {i: LowRank(fn(e.down), fn(e.up), e.scale) for i, e in self.alone.items()}
        return self


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
        self._slot = _Slot(ContextVar("gates", default=None))
        modules = dict(backbone.named_modules())
        adapted = {name for expert in experts.values() if expert is not None for name in expert.layers}
        for name in sorted(adapted):
            base = modules.get(name)
            if not isinstance(base, nn.Linear):
                found = "no such module" if base is None else type(base).__name__
                raise VoicegraftError(
                    f"an expert adapts {name}, where this backbone has {found}: it was trained for another backbone"
                )
            parts = [None if expert is None else expert.layers.get(name) for expert in experts.values()]
            for expert_name, part in zip(experts, parts, strict=True):
                shape = None if part is None else (part.up.shape[0], part.down.shape[1])
                if shape is not None and shape != tuple(base.weight.shape):
                    raise VoicegraftError(
                        f"the expert {expert_name!r} expects {name} to be {shape[0]} x {shape[1]}, this backbone's is "
                        f"{base.weight.shape[0]} x {base.weight.shape[1]}: it was trained for another backbone"
                    )
            parent, _, own = name.rpartition(".")
            setattr(modules[parent], own, MoleLinear(base, parts, self._slot))

    @contextmanager
    def gated(self, gates: str | Tensor | None) -> Iterator[None]:
        """The gates of every forward (and backward) in the block.

        Args:
            gates: an expert's name (it alone acts), weights ``[E]``, ``[B, 1, E]`` or ``[B, T, E]`` that broadcast over the
                positions of a forward, or None for the bare backbone.

        Raises:
            VoicegraftError: no such expert, or weights for another number of experts.
        """
        chosen: Gates = None
        if isinstance(gates, str):
            if gates not in self.names:
                raise VoicegraftError(f"no expert {gates!r}; there are: {', '.join(self.names)}")
            chosen = self.names.index(gates)
        elif gates is not None:
            if gates.shape[-1:] != (len(self.names),):
                raise VoicegraftError(
                    f"expected weights of {len(self.names)} experts ({', '.join(self.names)}), got {tuple(gates.shape)}"
                )
            chosen = gates
        token = self._slot.gates.set(chosen)
        try:
            yield
        finally:
            self._slot.gates.reset(token)

    def layers(self) -> Iterator[tuple[str, MoleLinear]]:
        """The fused layers by their names in the backbone."""
        return ((name, module) for name, module in self.backbone.named_modules() if isinstance(module, MoleLinear))
