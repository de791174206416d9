"""Conformer layers without subsampling, as VoiceTextBlender's adapter (arXiv 2410.17485): one vector per frame.

The layers are NeMo's, as transformers has them for Parakeet: relative positions, half-step feed-forward layers, batch norm.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from transformers.models.parakeet.configuration_parakeet import ParakeetEncoderConfig
from transformers.models.parakeet.modeling_parakeet import ParakeetEncoderBlock, ParakeetEncoderRelPositionalEncoding

from voicegraft.fusion.connectors.base import Connector, ConnectorConfig, Heard, inside


@dataclass(frozen=True)
class ConformerConfig(ConnectorConfig):
    width: int = 1024
    layers: int = 2
    heads: int = 8
    kernel: int = 9  # of the depthwise convolution
    dropout: float = 0.1


class ConformerLayers(nn.Module):
    """``[B, T, width]`` and lengths ``[B]`` -> ``[B, T, width]``."""

    def __init__(self, width: int, layers: int, heads: int, kernel: int, dropout: float):
        super().__init__()
        config = ParakeetEncoderConfig(
            hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width, conv_kernel_size=kernel,
            activation_dropout=dropout, attention_dropout=dropout,
        )  # fmt: skip
        config._attn_implementation = "sdpa"
        self.positions = ParakeetEncoderRelPositionalEncoding(config)
        self.layers = nn.ModuleList(ParakeetEncoderBlock(config, i) for i in range(layers))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        own = inside(lengths, x.shape[1])
        seen = (own[:, None] & own[..., None])[:, None]
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, attention_mask=seen, position_embeddings=self.positions(x))
        return x


class Conformer(Connector):
    KIND, CONFIG = "connector-conformer", ConformerConfig
    config: ConformerConfig

    def __init__(self, config: ConformerConfig):
        super().__init__()
        c = self.config = config
        self.enter = nn.Sequential(nn.LayerNorm(c.input_width), nn.Linear(c.input_width, c.width))
        self.layers = ConformerLayers(c.width, c.layers, c.heads, c.kernel, c.dropout)
        self.leave = nn.Linear(c.width, c.output_width)

    def forward(self, frames: Tensor, lengths: Tensor) -> Heard:
        return Heard(self.leave(self.layers(self.enter(frames), lengths)), lengths)
