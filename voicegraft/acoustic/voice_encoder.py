"""Voice encoder: a few seconds of somebody's speech -> the vector that tells the acoustic LM how to sound.

Convolutions over log-mels, then the mean and the spread over time of what attention finds telling (attentive statistics
pooling, Okabe et al. 2018, arXiv 1803.10963), and a narrow vector of length one. It is trained together with the acoustic LM,
which is told nothing else of the speaker, on another piece of the person's speech; a softmax over the speakers keeps them
apart. A named voice is the mean vector of its recordings.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.audio.mel import LogMel, MelConfig
from voicegraft.core.artifacts import Pretrained


@dataclass(frozen=True)
class VoiceEncoderConfig:
    mel: MelConfig = field(default_factory=MelConfig)
    channels: int = 160
    dilations: tuple[int, ...] = (1, 2, 3)  # one residual block each
    width: int = 64  # of the vector


class VoiceEncoder(Pretrained):
    KIND, CONFIG, STORED_AS = "voice-encoder", VoiceEncoderConfig, torch.float16

    def __init__(self, config: VoiceEncoderConfig):
        super().__init__()
        c = self.config = config
        self.log_mel = LogMel(c.mel)
        self.enter = nn.Conv1d(c.mel.num_mels, c.channels, 5, stride=2, padding=2)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, c.channels),
                nn.Conv1d(c.channels, c.channels, 5, padding=2 * dilation, dilation=dilation),
                nn.GELU(),
                nn.Conv1d(c.channels, c.channels, 1),
            )
            for dilation in c.dilations
        )
        self.telling = nn.Conv1d(c.channels, c.channels, 1)
        self.leave = nn.Linear(2 * c.channels, c.width)

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mels ``[B, M, T]`` -> vectors of length one ``[B, width]``."""
        x = self.enter((mel + 5.0) / 2.0)  # about -1 to 1
        for block in self.blocks:
            x = x + block(x)
        share = self.telling(x).float().softmax(-1)
        mean = (share * x).sum(-1)
        spread = (share * (x - mean[..., None]).square()).sum(-1).clamp(min=1e-5).sqrt()
        return F.normalize(self.leave(torch.cat([mean, spread], -1)).float(), dim=-1)

    def encode(self, samples: Tensor) -> Tensor:
        """Waveforms ``[B, T]`` at the mel's rate -> ``[B, width]``."""
        return self(self.log_mel(samples))
