"""Several frames side by side, then a two-layer perceptron: the plainest connector (SLAM-ASR, arXiv 2402.08846)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.fusion.connectors.base import Connector, ConnectorConfig, Heard, divided, silenced


@dataclass(frozen=True)
class StackConfig(ConnectorConfig):
    stacked: int = 8  # frames per vector: 6.25 a second of Whisper's 50
    hidden: int = 1024


class Stack(Connector):
    KIND, CONFIG = "connector-stack", StackConfig
    config: StackConfig

    def __init__(self, config: StackConfig):
        super().__init__()
        c = self.config = config
        self.norm = nn.LayerNorm(c.input_width)
        self.enter = nn.Linear(c.stacked * c.input_width, c.hidden)
        self.leave = nn.Linear(c.hidden, c.output_width)

    def forward(self, frames: Tensor, lengths: Tensor) -> Heard:
        x = silenced(self.norm(frames), lengths)
        x = F.pad(x, (0, 0, 0, -x.shape[1] % self.config.stacked))
        x = x.reshape(len(x), -1, self.enter.in_features)
        return Heard(self.leave(F.gelu(self.enter(x))), divided(lengths, self.config.stacked))
