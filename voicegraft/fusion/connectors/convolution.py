"""Strided convolutions with gated linear units and a bottleneck adapter, as in BLSP (arXiv 2309.00916)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.fusion.connectors.base import Connector, ConnectorConfig, Heard, Strided


@dataclass(frozen=True)
class ConvolutionConfig(ConnectorConfig):
    width: int = 512
    kernel: int = 5  # an odd number
    strides: tuple[int, ...] = (2, 2, 2)  # Whisper's 50 frames a second to 6.25 vectors
    bottleneck: int = 512


class Convolution(Connector):
    KIND, CONFIG = "connector-convolution", ConvolutionConfig
    config: ConvolutionConfig

    def __init__(self, config: ConvolutionConfig):
        super().__init__()
        c = self.config = config
        widths = (c.input_width, *(c.width for _ in c.strides))
        self.norm = nn.LayerNorm(c.input_width)
        self.convolutions = nn.ModuleList(
            Strided(width, 2 * c.width, c.kernel, stride) for width, stride in zip(widths, c.strides, strict=False)
        )
        self.adapter = nn.Sequential(
            nn.LayerNorm(c.width), nn.Linear(c.width, c.bottleneck), nn.GELU(), nn.Linear(c.bottleneck, c.width)
        )
        self.leave = nn.Sequential(nn.LayerNorm(c.width), nn.Linear(c.width, c.output_width))

    def forward(self, frames: Tensor, lengths: Tensor) -> Heard:
        x = self.norm(frames)
        for convolution in self.convolutions:
            x, lengths = convolution(x, lengths)
            x = F.glu(x, -1)
        return Heard(self.leave(x + self.adapter(x)), lengths)
