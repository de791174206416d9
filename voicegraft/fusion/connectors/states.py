"""A map over the recogniser's decoder states, one vector for each token of its own transcript.

The words are the recogniser's; what the connector adds is where they stand among the LLM's embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from voicegraft.fusion.connectors.base import Connector, ConnectorConfig, Heard


@dataclass(frozen=True)
class StatesConfig(ConnectorConfig):
    hidden: int = 1024


class States(Connector):
    KIND, CONFIG = "connector-states", StatesConfig
    config: StatesConfig

    def __init__(self, config: StatesConfig):
        super().__init__()
        c = self.config = config
        self.straight = nn.Linear(c.input_width, c.output_width)
        self.bend = nn.Sequential(
            nn.LayerNorm(c.input_width),
            nn.Linear(c.input_width, c.hidden),
            nn.GELU(),
            nn.Linear(c.hidden, c.output_width),
        )

    def forward(self, frames: Tensor, lengths: Tensor) -> Heard:
        return Heard(self.straight(frames) + self.bend(frames), lengths)
