"""What tells the codecs of ``transformers`` apart: how each encodes, what its codes stand for, of which stages it decodes.

A further codec is a further class here and a line in ``FAMILIES``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.mimi.modeling_mimi import apply_rotary_pos_emb

from voicegraft.tokenizers.streaming_conv import Chain, Conv, Each, Recurrent, Residual, Stage, Widen


class Family(Protocol):
    """A kind of codec, given its model as ``transformers`` has it and the number of codebooks ``K`` that are used."""

    def quantizers(self, model: Any) -> Sequence[Any]:
        """One per codebook, in the order of the codes."""
        ...

    def fewest(self, model: Any) -> int:
        """The smallest number of codebooks that can be decoded."""
        ...

    def encode(self, model: Any, samples: Tensor, num_codebooks: int) -> Tensor:
        """Samples ``[B, T]`` -> codes ``[B, K or more, about T / hop]``."""
        ...

    def entries(self, model: Any, num_codebooks: int) -> Tensor:
        """``[K, V, W]``, whose sums are what the first stage reads."""
        ...

    def stages(self, model: Any) -> Iterable[Stage]:
        """The decoder: sums of entries ``[B, W, T]`` to samples ``[B, 1, T * hop]``."""
        ...


class Encodec:
    """EnCodec (Défossez et al. 2022, arXiv 2210.13438), the model at 24 kHz."""

    def quantizers(self, model: Any) -> Sequence[Any]:
        return list(model.quantizer.layers)

    def fewest(self, model: Any) -> int:
        return 1

    def encode(self, model: Any, samples: Tensor, num_codebooks: int) -> Tensor:
        codes: Tensor = model.encode(samples[:, None], bandwidth=model.config.target_bandwidths[-1]).audio_codes
        return codes[0]

    def entries(self, model: Any, num_codebooks: int) -> Tensor:
        return torch.stack([layer.codebook.embed for layer in model.quantizer.layers[:num_codebooks]])

    def stages(self, model: Any) -> Iterable[Stage]:
        return _seanet(model.decoder.layers)


class Mimi:
    """Mimi (Défossez et al. 2024, arXiv 2410.00037): codebooks of what is said, then of how it sounds."""

    def quantizers(self, model: Any) -> Sequence[Any]:
        return [layer for part in self._parts(model) for layer in part.layers]

    def fewest(self, model: Any) -> int:
        return int(model.quantizer.num_semantic_quantizers)

    def encode(self, model: Any, samples: Tensor, num_codebooks: int) -> Tensor:
        codes: Tensor = model.encode(samples[:, None], num_quantizers=num_codebooks).audio_codes
        for layer in self.quantizers(model):
            layer.codebook._embed = (
                None  # kept by transformers, but left behind where the model moves to another device
            )
        return codes

    def entries(self, model: Any, num_codebooks: int) -> Tensor:
        found = []
        for part in self._parts(model):
            for layer in part.layers:
                book = layer.codebook
                entries = book.embed_sum / book.cluster_usage.clamp(min=book.epsilon)[:, None]
                found.append(entries if part.output_proj is None else entries @ part.output_proj.weight[..., 0].T)
        return torch.stack(found[:num_codebooks])

    def stages(self, model: Any) -> Iterable[Stage]:
        decoder = model.decoder
        yield _widen(decoder.upsample)
        yield WindowedTransformer(decoder.decoder_transformer)
        yield from _seanet(decoder.decoder_seanet.layers)

    def _parts(self, model: Any) -> Sequence[Any]:
        quantizer = model.quantizer
        return quantizer.semantic_residual_vector_quantizer, quantizer.acoustic_residual_vector_quantizer


class Dac:
    """The Descript audio codec (Kumar et al. 2023, arXiv 2306.06546), whose convolutions look both ways."""

    def quantizers(self, model: Any) -> Sequence[Any]:
        return list(model.quantizer.quantizers)

    def fewest(self, model: Any) -> int:
        return 1

    def encode(self, model: Any, samples: Tensor, num_codebooks: int) -> Tensor:
        codes: Tensor = model.encode(samples[:, None], n_quantizers=num_codebooks).audio_codes
        return codes

    def entries(self, model: Any, num_codebooks: int) -> Tensor:
        used = model.quantizer.quantizers[:num_codebooks]
        return torch.stack([F.linear(q.codebook.weight, q.out_proj.weight[..., 0], q.out_proj.bias) for q in used])

    def stages(self, model: Any) -> Iterable[Stage]:
        decoder = model.decoder
        yield _centred(decoder.conv1)
        for block in decoder.block:
            yield Each(block.snake1)
            yield Widen(block.conv_t1, block.conv_t1.padding[0], block.conv_t1.padding[0])
            for unit in (block.res_unit1, block.res_unit2, block.res_unit3):
                branch = Chain([Each(unit.snake1), _centred(unit.conv1), Each(unit.snake2), _centred(unit.conv2)])
                yield Residual(branch, Chain([]), unit.conv1.in_channels)
        yield Each(decoder.snake1)
        yield _centred(decoder.conv2)
        yield Each(decoder.tanh)


FAMILIES: dict[str, Family] = {"dac": Dac(), "encodec": Encodec(), "mimi": Mimi()}

# What the stages can do, where a config says anything about it.
_STREAMABLE: dict[str, tuple[object, ...]] = {
    "audio_channels": (1,),
    "use_causal_conv": (True,),
    "pad_mode": ("constant", "reflect"),
    "norm_type": ("weight_norm",),
    "normalize": (False,),
    "chunk_length_s": (None,),
}


def unfit(config: Any) -> list[str]:
    """What in a config cannot be decoded piece by piece, as ``key=value``: EnCodec at 48 kHz normalises whole chunks."""
    found = {key: getattr(config, key, fit[0]) for key, fit in _STREAMABLE.items()}
    return [f"{key}={value}" for key, value in found.items() if value not in _STREAMABLE[key]]


@dataclass(frozen=True)
class WindowState:
    keys: tuple[Tensor, ...]  # per layer [B, H, < window, D]
    values: tuple[Tensor, ...]
    position: int


class WindowedTransformer(Stage):
    """Mimi's causal transformer, whose positions see so many before them and no more."""

    def __init__(self, transformer: Any):
        super().__init__()
        self.transformer = transformer
        self.window = int(transformer.config.sliding_window)

    def start(self, batch: int, like: Tensor) -> WindowState:
        c = self.transformer.config
        nothing = like.new_zeros(batch, c.num_key_value_heads, 0, c.head_dim)
        return WindowState((nothing,) * c.num_hidden_layers, (nothing,) * c.num_hidden_layers, 0)

    def step(self, x: Tensor, state: WindowState, last: bool) -> tuple[Tensor, WindowState]:
        if not x.shape[-1]:
            return x, state
        end = state.position + x.shape[-1]
        positions = torch.arange(state.position, end, device=x.device)
        known = torch.arange(state.position - state.keys[0].shape[-2], end, device=x.device)
        age = positions[:, None] - known
        seen = (age >= 0) & (age < self.window)
        h, keys, values = x.mT, [], []
        turns = self.transformer.rotary_emb(h, positions[None])
        for layer, key, value in zip(self.transformer.layers, state.keys, state.values, strict=True):
            attended, key, value = self._attend(layer.self_attn, layer.input_layernorm(h), turns, seen, key, value)
            h = h + layer.self_attn_layer_scale(attended)
            h = h + layer.mlp_layer_scale(layer.mlp(layer.post_attention_layernorm(h)))
            keys.append(key)
            values.append(value)
        return h.mT, WindowState(tuple(keys), tuple(values), end)

    def _attend(
        self, attention: Any, x: Tensor, turns: tuple[Tensor, Tensor], seen: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        query, new_key, new_value = (
            project(x).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        query, new_key = apply_rotary_pos_emb(query, new_key, *turns)
        key, value = torch.cat([key, new_key], 2), torch.cat([value, new_value], 2)
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=attention.scaling, enable_gqa=True)
        old = max(0, key.shape[2] - (self.window - 1))
        return attention.o_proj(y.transpose(1, 2).flatten(2)), key[:, :, old:], value[:, :, old:]


def _seanet(layers: Iterable[Any]) -> Iterable[Stage]:
    """The decoder that EnCodec and Mimi share, layer by layer."""
    for layer in layers:
        if hasattr(layer, "block"):
            branch = Chain(_seanet(layer.block))
            shortcut = Chain([] if isinstance(layer.shortcut, nn.Identity) else _seanet([layer.shortcut]))
            yield Residual(branch, shortcut, layer.block[-1].conv.out_channels)
        elif hasattr(layer, "lstm"):
            yield Recurrent(layer.lstm)
        elif isinstance(getattr(layer, "conv", None), nn.ConvTranspose1d):
            yield _widen(layer)
        elif hasattr(layer, "conv"):
            reach = layer.conv.dilation[0] * (layer.conv.kernel_size[0] - 1)
            yield Conv(layer.conv, reach, 0, reflect=layer.pad_mode == "reflect")
        else:
            yield Each(layer)


def _widen(layer: Any) -> Widen:
    """A causal transposed convolution: what it has too much is cut off at the end, or in part at the beginning."""
    surplus = layer.conv.kernel_size[0] - layer.conv.stride[0]
    right = -int(-surplus * layer.trim_right_ratio // 1)
    return Widen(layer.conv, surplus - right, right)


def _centred(conv: nn.Conv1d) -> Conv:
    """A convolution that looks as far ahead as back."""
    padding = int(conv.padding[0])
    return Conv(conv, padding, padding, reflect=False)
