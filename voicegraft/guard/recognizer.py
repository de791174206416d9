"""A small network that tells the phones which semantic tokens sound like, for the guard and for alignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.core.artifacts import Pretrained
from voicegraft.text.units import NUM_CLASSES, UNITS


@dataclass(frozen=True)
class VoicePace:
    """How long the training recordings of a voice hold each unit, in frames, in the order of ``MonitorConfig.units``."""

    voice: str
    mean: tuple[float, ...]
    variance: tuple[float, ...]
    longest: tuple[int, ...]  # a unit that lasts longer is stuck


@dataclass(frozen=True)
class MonitorConfig:
    semantic: str  # fingerprint of the tokenizer whose tokens it reads
    vocab_size: int
    units: tuple[str, ...] = UNITS
    before: int = 5  # tokens told before a frame
    after: int = 3  # and after it
    dim: int = 48  # of a token's embedding
    hidden: int = 192
    pace: tuple[VoicePace, ...] = ()


class UnitRecognizer(Pretrained):
    """Semantic tokens around a frame -> the phone, or the silence, that the frame sounds like."""

    KIND, CONFIG, STORED_AS = "monitor", MonitorConfig, torch.float16

    def __init__(self, config: MonitorConfig):
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocab_size + 1, config.dim)  # the last one: nothing, or not shown
        self.enter = nn.Linear(config.dim * self.width, config.hidden)
        self.leave = nn.Linear(config.hidden, NUM_CLASSES)

    @property
    def width(self) -> int:
        return self.config.before + 1 + self.config.after

    @property
    def nothing(self) -> int:
        """Stands for a token beyond the ends."""
        return self.config.vocab_size

    def forward(self, windows: Tensor) -> Tensor:
        """Tokens ``[N, before + 1 + after]`` -> logits of the classes ``[N, NUM_CLASSES]``."""
        out: Tensor = self.leave(F.gelu(self.enter(self.token(windows).flatten(1))))
        return out

    @torch.inference_mode()
    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens ``[before + N + after]`` -> logits of the classes ``[N, NUM_CLASSES]`` of the frames in the middle."""
        ids = torch.from_numpy(tokens).to(self.token.weight.device)
        return self(ids.unfold(0, self.width, 1)).float().cpu().numpy()
