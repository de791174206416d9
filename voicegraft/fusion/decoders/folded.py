"""A Llama-family decoder laid out for streaming on a CPU, with the experts folded into its weights.

A small model's step costs more in bookkeeping than in arithmetic. Here query, key and value are one product, so are gate
and up, keys and values live in buffers that are written in place, and grouped query heads share one attention call. Sequences
that stand at different positions share all products; each attends by itself, so nothing is padded. The result is the same
hidden state as the transformers model's (a test compares them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from voicegraft.core.errors import VoicegraftError
from voicegraft.fusion.decoders.base import SequenceGates, by_groups
from voicegraft.fusion.experts import SPEECH
from voicegraft.fusion.mole import MoLE

FAMILIES = ("llama", "mistral")  # pre-norm, rotary, SwiGLU, no biases
_KEPT_MIXTURES = 4  # folded copies of mixtures that are kept, beside those of single experts


@dataclass
class FoldedState:
    """Keys and values so far, ``[num_layers, 2, KV heads, capacity, head width]``; belongs to one sequence."""

    model: FoldedModel
    buffer: Tensor
    gates: SequenceGates = ""
    length: int = 0  # positions
    crops = True

    def reserve(self, num_positions: int) -> None:
        """Doubles the buffers until this many positions fit."""
        while self.buffer.shape[3] < num_positions:
            self.buffer = torch.cat([self.buffer, torch.zeros_like(self.buffer)], 3)


@dataclass(frozen=True)
class _Layer:
    attention_norm: Tensor  # [D]
    qkv: Tensor  # [(heads + 2 KV heads) * head width, D]
    out: Tensor  # [D, heads * head width]
    mlp_norm: Tensor  # [D]
    gate_up: Tensor  # [2 * MLP width, D]
    down: Tensor  # [D, MLP width]


class FoldedModel:
    """Built from the inner model of a causal LM (``LlamaModel`` and the like), whose weights it copies.

    Args:
        weight_of: linear layer -> the weight to use, where something is to be folded in.
    """

    def __init__(self, inner: Any, weight_of: Callable[[Any], Tensor] = lambda module: module.weight):
        def weight(module: Any) -> Tensor:
            return weight_of(module).detach()

        config = inner.config
        self.num_heads: int = config.num_attention_heads
        self.num_kv_heads: int = config.num_key_value_heads
        self.head_width: int = getattr(config, "head_dim", None) or config.hidden_size // self.num_heads
        self.eps: float = config.rms_norm_eps
        self.norm: Tensor = inner.norm.weight.detach()
        rotary = inner.rotary_emb
        self.rates: Tensor = rotary.inv_freq.detach().float()
        self.scaling: float = rotary.attention_scaling
        self.cos, self.sin = self._angles(512)
        self.layers = [
            _Layer(
                attention_norm=layer.input_layernorm.weight.detach(),
                qkv=torch.cat([weight(getattr(layer.self_attn, f"{n}_proj")) for n in "qkv"]),
                out=weight(layer.self_attn.o_proj).clone(),
                mlp_norm=layer.post_attention_layernorm.weight.detach(),
                gate_up=torch.cat([weight(layer.mlp.gate_proj), weight(layer.mlp.up_proj)]),
                down=weight(layer.mlp.down_proj).clone(),
            )
            for layer in inner.layers
        ]

    @staticmethod
    def supports(inner: Any) -> bool:
        """Whether the architecture is one of ``FAMILIES`` with the features that are laid out here."""
        config = inner.config
        without_biases = not getattr(config, "attention_bias", False) and not getattr(config, "mlp_bias", False)
        # Named rope_scaling, and None when there is none, before transformers 5.
        scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        rope = scaling.get("rope_type", "default")
        window = getattr(config, "sliding_window", None)
        return (
            config.model_type in FAMILIES
            and without_biases
            and not window
            and rope == "default"
            and config.hidden_act == "silu"
            and getattr(config, "quantization_config", None) is None  # nothing can be folded into such weights
        )

    def start(self, gates: SequenceGates = "") -> FoldedState:
        shape = (len(self.layers), 2, self.num_kv_heads, 256, self.head_width)
        return FoldedState(self, self.norm.new_zeros(shape), gates)

    def __call__(self, inputs: Sequence[Tensor], states: Sequence[FoldedState]) -> list[Tensor]:
        """Embeddings ``[T, D]`` of each sequence's next positions -> last hidden states ``[T, D]``; extends the states."""
        sizes = [len(x) for x in inputs]
        spans = [(state.length, state.length + size) for state, size in zip(states, sizes, strict=True)]
        for state, (_, end) in zip(states, spans, strict=True):
            state.reserve(end)
            if len(self.cos) < end:
                self.cos, self.sin = self._angles(2 * end)
        cos, sin = (_joined([table[begin:end] for begin, end in spans]) for table in (self.cos, self.sin))
        h = _joined(inputs).to(self.norm)  # [all positions, D]
        heads, width = self.num_heads + self.num_kv_heads, self.head_width
        for number, layer in enumerate(self.layers):
            qkv = F.linear(F.rms_norm(h, h.shape[-1:], layer.attention_norm, self.eps), layer.qkv)
            qkv = qkv.view(len(h), -1, width).transpose(0, 1)  # [heads + 2 KV heads, all positions, width]
            qk = qkv[:heads]
            qk = qk * cos + torch.cat([-qk[..., width // 2 :], qk[..., : width // 2]], -1) * sin
            attended = [
                self._attend(q, k, v, state.buffer[number], *span)
                for q, k, v, state, span in zip(
                    _split(qk[: self.num_heads], sizes),
                    _split(qk[self.num_heads :], sizes),
                    _split(qkv[heads:], sizes),
                    states,
                    spans,
                    strict=True,
                )
            ]
            h = h + F.linear(_joined(attended), layer.out)
            gate, up = F.linear(F.rms_norm(h, h.shape[-1:], layer.mlp_norm, self.eps), layer.gate_up).chunk(2, -1)
            h = h + F.linear(F.silu(gate) * up, layer.down)
        for state, (_, end) in zip(states, spans, strict=True):
            state.length = end
        h = F.rms_norm(h, h.shape[-1:], self.norm, self.eps)
        return [h] if len(sizes) == 1 else list(h.split(sizes))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, buffer: Tensor, begin: int, end: int) -> Tensor:
        """One sequence's queries, keys and values ``[heads, T, width]`` -> ``[T, heads * width]``; writes into the buffer."""
        keys, values = buffer
        keys[:, begin:end] = k
        values[:, begin:end] = v
        num_new = end - begin
        if num_new == 1:  # the queries that share keys stand side by side as if they were positions
            q = q.reshape(1, self.num_kv_heads, -1, self.head_width)
            return F.scaled_dot_product_attention(q, keys[None, :, :end], values[None, :, :end]).reshape(1, -1)
        mask = torch.ones(num_new, end, dtype=torch.bool, device=q.device).tril(begin)
        group = self.num_heads // self.num_kv_heads
        k, v = (b[:, :end].repeat_interleave(group, 0)[None] for b in (keys, values))
        attended = F.scaled_dot_product_attention(q[None], k, v, attn_mask=mask)
        return attended[0].transpose(0, 1).reshape(num_new, -1)

    def _angles(self, num_positions: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines ``[num_positions, head width]`` of the rotary embedding, both halves alike, of the model's type."""
        positions = torch.arange(num_positions, device=self.rates.device)
        angles = torch.cat([positions[:, None] * self.rates] * 2, -1)
        return (angles.cos() * self.scaling).to(self.norm), (angles.sin() * self.scaling).to(self.norm)


class FoldedDecoder:
    """Decodes on folded copies of the backbone, one for every mixture; the backbone itself stays as it is."""

    def __init__(self, mole: MoLE, inner: Any = None):
        """
        Args:
            inner: what is folded of the backbone (``fusion.depth``); None: all of it.
        """
        self.mole, self.inner = mole, inner or mole.backbone.base_model
        self._folded: dict[str, FoldedModel] = {}
        if SPEECH in mole.names:
            self.folded(SPEECH)

    def start(self, gates: SequenceGates) -> FoldedState:
        return self.folded(gates).start(gates)

    def step(
        self, inputs: Sequence[Tensor], states: Sequence[FoldedState], gates: SequenceGates | None = None
    ) -> list[Tensor]:
        models = [state.model if gates is None else self.folded(gates) for state in states]
        return by_groups(models, lambda some: models[some[0]]([inputs[n] for n in some], [states[n] for n in some]))

    def crop(self, state: FoldedState, num_positions: int) -> None:
        state.length -= num_positions

    def folded(self, gates: SequenceGates) -> FoldedModel:
        """A copy of the backbone with the experts folded in at gates ``[E]`` or ``[num_layers, E]``, or with one expert."""
        if gates is None:
            gates = torch.zeros(len(self.mole.names))
        if not isinstance(gates, str | Tensor):
            raise VoicegraftError(
                "gates that change inside a sequence cannot be folded in: decode through transformers"
            )
        key = gates if isinstance(gates, str) else str([round(g, 3) for g in gates.flatten().tolist()])
        if key not in self._folded:
            mixtures = [k for k in self._folded if k not in self.mole.names]
            if len(mixtures) >= _KEPT_MIXTURES:  # the oldest goes; experts alone stay
                del self._folded[mixtures[0]]
            self._folded[key] = FoldedModel(self.inner, self.mole.merged(gates))
        return self._folded[key]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Along the first dimension; a copy only where there are several."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _split(x: Tensor, sizes: list[int]) -> Sequence[Tensor]:
    """``[heads, all positions, width]`` -> the positions of each sequence."""
    return [x] if len(sizes) == 1 else x.split(sizes, 1)
