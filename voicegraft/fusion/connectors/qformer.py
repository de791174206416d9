"""Window Q-Former: learned queries look at a third of a second at a time.

From SALMONN (arXiv 2310.13289), used by Self-Powered LSM (arXiv 2410.03798); the layers are BLIP-2's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from voicegraft.fusion.connectors.base import Connector, ConnectorConfig, Heard, divided, inside


@dataclass(frozen=True)
class QFormerConfig(ConnectorConfig):
    window: int = 17  # frames: 0.34 s of Whisper's
    queries: int = 1  # vectors per window
    width: int = 768
    layers: int = 2
    heads: int = 12
    dropout: float = 0.1


class QFormer(Connector):
    KIND, CONFIG = "connector-qformer", QFormerConfig
    config: QFormerConfig

    def __init__(self, config: QFormerConfig):
        super().__init__()
        c = self.config = config
        self.norm = nn.LayerNorm(c.input_width)
        self.queries = nn.Parameter(0.02 * torch.randn(1, c.queries, c.width))
        self.model = Blip2QFormerModel(
            Blip2QFormerConfig(
                hidden_size=c.width, num_hidden_layers=c.layers, num_attention_heads=c.heads, intermediate_size=4 * c.width,
                hidden_dropout_prob=c.dropout, attention_probs_dropout_prob=c.dropout, cross_attention_frequency=1,
                encoder_hidden_size=c.input_width,
            )
        )  # fmt: skip
        self.leave = nn.Linear(c.width, c.output_width)

    def forward(self, frames: Tensor, lengths: Tensor) -> Heard:
        c = self.config
        x = F.pad(self.norm(frames), (0, 0, 0, -frames.shape[1] % c.window))
        windows = x.reshape(-1, c.window, x.shape[-1])
        own = inside(lengths, x.shape[1]).reshape(-1, c.window)
        own[:, 0] |= ~own.any(1)  # attention to nothing at all is undefined; such a window is padding
        found = self.model(
            query_embeds=self.queries.expand(len(windows), -1, -1),
            encoder_hidden_states=windows,
            encoder_attention_mask=own.long(),
        ).last_hidden_state
        vectors = self.leave(found).reshape(len(frames), -1, c.output_width)
        return Heard(vectors, divided(lengths, c.window) * c.queries)
