"""Unsupervised units: k-means over cepstra, one code every 20 ms; the yardstick for trained units.

Nobody labels anything: the log-mel's cosine transform and its slopes, brought to zero mean and unit variance
within the utterance (which takes the microphone and some of the speaker away), are averaged to the token rate
and assigned to the nearest of V centroids. HuBERT begins with such units (Hsu et al. 2021, arXiv 2106.07447).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from voicegraft.audio.mel import LogMel, MelConfig
from voicegraft.core.artifacts import fingerprint, load_artifact, save_artifact
from voicegraft.tokenizers.base import TokenizerSpec
from voicegraft.tokenizers.centroids import CentroidUnits, fit_centroids


@dataclass(frozen=True)
class KMeansConfig:
    mel: MelConfig = field(default_factory=MelConfig)
    stride: int = 2  # mel frames per token
    num_cepstra: int = 13  # cosine coefficients, from the mean level on
    vocab_size: int = 1225  # clusters


class KMeansTokenizer(CentroidUnits):
    """Speech to units by the nearest centroid; ``encode`` sees the whole utterance, which it normalises."""

    cosines: Tensor  # [num_cepstra, num_mels]
    slope: Tensor  # [1, 1, 5]

    def __init__(self, config: KMeansConfig):
        super().__init__(config.vocab_size, 3 * config.num_cepstra)
        c = self.config = config
        self.log_mel = LogMel(c.mel)
        bands = (torch.arange(c.mel.num_mels) + 0.5) * math.pi / c.mel.num_mels
        cosines = torch.outer(torch.arange(c.num_cepstra), bands).cos() * math.sqrt(2 / c.mel.num_mels)
        self.register_buffer("cosines", cosines, persistent=False)
        # The slope of the line through five frames.
        self.register_buffer("slope", torch.tensor([[[-0.2, -0.1, 0.0, 0.1, 0.2]]]), persistent=False)

    @property
    def spec(self) -> TokenizerSpec:
        c = self.config
        return TokenizerSpec(c.mel.sample_rate, c.mel.hop * c.stride, c.vocab_size, 1, self.fingerprint())

    def fingerprint(self) -> str:
        return fingerprint(self.state_dict())

    def encode(self, samples: Tensor) -> Tensor:
        """Waveforms ``[B, T]`` -> codes ``[B, 1, T // hop]``."""
        return self.encode_mel(self.log_mel(samples))

    def encode_mel(self, mel: Tensor) -> Tensor:
        """Log-mels ``[B, M, T]`` -> codes ``[B, 1, T // stride]``."""
        return self.units(self.features(mel))

    def features(self, mel: Tensor) -> Tensor:
        """Log-mels ``[B, M, T]`` -> what is clustered, ``[B, T // stride, 3 * num_cepstra]``."""
        stride = self.config.stride
        cepstra = self.cosines @ mel.float()
        slopes = self._slopes(cepstra)
        flat = torch.cat([cepstra, slopes, self._slopes(slopes)], 1)
        flat = (flat - flat.mean(-1, keepdim=True)) / flat.std(-1, correction=0, keepdim=True).clamp(min=1e-3)
        num_tokens = flat.shape[-1] // stride
        return flat[..., : num_tokens * stride].unflatten(-1, (num_tokens, stride)).mean(-1).mT

    def _slopes(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (2, 2), mode="replicate")
        return F.conv1d(padded.flatten(0, 1)[:, None], self.slope).view_as(x)

    def fit(self, features: Tensor, seed: int = 0) -> None:
        """Places the centroids by k-means over ``[N, 3 * num_cepstra]`` features.

        Raises VoicegraftError if there are fewer frames than clusters.
        """
        self.place(fit_centroids(features, self.config.vocab_size, seed))

    def save(self, folder: Path, provenance: dict[str, object]) -> None:
        save_artifact(folder, "kmeans-tokenizer", self.config, self.state_dict(), provenance)

    @staticmethod
    def load(folder: Path) -> KMeansTokenizer:
        artifact = load_artifact(folder, "kmeans-tokenizer", KMeansConfig)
        model = KMeansTokenizer(artifact.config)
        model.load_state_dict(artifact.tensors)
        return model.eval().requires_grad_(False)
