"""One position at a time, fast: a Llama-family decoder laid out for streaming on a CPU.

A small model's step costs more in bookkeeping than in arithmetic. Here query, key and value are one product, so are gate
and up, keys and values live in buffers that are written in place, and grouped query heads share one attention call. The
result is the same hidden state as the transformers model's (a test compares them); any other architecture decodes
through transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FAMILIES = ("llama", "mistral")  # pre-norm, rotary, SwiGLU, no biases


@dataclass
class DecoderState:
    """Keys and values so far, ``[num_layers, 2, KV heads, capacity, head width]``; belongs to one stream."""

    buffer: Tensor
    length: int = 0  # positions

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


class StepDecoder:
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
        plain = not getattr(config, "attention_bias", False) and not getattr(config, "mlp_bias", False)
        # Named rope_scaling, and None when there is none, before transformers 5.
        scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        rope = scaling.get("rope_type", "default")
        window = getattr(config, "sliding_window", None)
        return (
            config.model_type in FAMILIES
            and plain
            and not window
            and rope == "default"
            and config.hidden_act == "silu"
            and getattr(config, "quantization_config", None) is None  # nothing can be folded into such weights
        )

    def start(self) -> DecoderState:
        shape = (len(self.layers), 2, self.num_kv_heads, 256, self.head_width)
        return DecoderState(self.norm.new_zeros(shape))

    def __call__(self, x: Tensor, state: DecoderState) -> Tensor:
        """Embeddings ``[1, T, D]`` of the next positions -> last hidden states ``[1, T, D]``; extends the state."""
        num_new, begin = x.shape[1], state.length
        end = begin + num_new
        state.reserve(end)
        if len(self.cos) < end:
            self.cos, self.sin = self._angles(2 * end)
        cos, sin = self.cos[begin:end], self.sin[begin:end]
        mask = None
        if num_new > 1:
            mask = torch.ones(num_new, end, dtype=torch.bool, device=x.device).tril(begin)
        h = x[0].to(self.norm)  # [T, D]
        heads = self.num_heads + self.num_kv_heads
        width = self.head_width
        for layer, (keys, values) in zip(self.layers, state.buffer, strict=True):
            qkv = F.linear(F.rms_norm(h, h.shape[-1:], layer.attention_norm, self.eps), layer.qkv)
            qkv = qkv.view(num_new, -1, width).transpose(0, 1)  # [heads + 2 KV heads, T, width]
            qk = qkv[:heads]
            qk = qk * cos + torch.cat([-qk[..., width // 2 :], qk[..., : width // 2]], -1) * sin
            keys[:, begin:end] = qk[self.num_heads :]
            values[:, begin:end] = qkv[heads:]
            if num_new == 1:  # the queries that share keys stand side by side as if they were positions
                q = qk[: self.num_heads].view(1, self.num_kv_heads, -1, width)
                attended = F.scaled_dot_product_attention(q, keys[None, :, :end], values[None, :, :end])
                attended = attended.reshape(1, -1)
            else:
                group = self.num_heads // self.num_kv_heads
                k, v = (b[:, :end].repeat_interleave(group, 0)[None] for b in (keys, values))
                attended = F.scaled_dot_product_attention(qk[None, : self.num_heads], k, v, attn_mask=mask)
                attended = attended[0].transpose(0, 1).reshape(num_new, -1)
            h = h + F.linear(attended, layer.out)
            gate, up = F.linear(F.rms_norm(h, h.shape[-1:], layer.mlp_norm, self.eps), layer.gate_up).chunk(2, -1)
            h = h + F.linear(F.silu(gate) * up, layer.down)
        state.length = end
        return F.rms_norm(h, h.shape[-1:], self.norm, self.eps)[None]

    def _angles(self, num_positions: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines ``[num_positions, head width]`` of the rotary embedding, both halves alike, of the model's type."""
        positions = torch.arange(num_positions, device=self.rates.device)
        angles = torch.cat([positions[:, None] * self.rates] * 2, -1)
        return (angles.cos() * self.scaling).to(self.norm), (angles.sin() * self.scaling).to(self.norm)
