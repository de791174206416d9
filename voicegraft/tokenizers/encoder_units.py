"""Units from pretrained encoders: the frames of one hidden layer, each named by the nearest of up to 4,096 centroids.

So are made the units of HuBERT (Hsu et al. 2021, arXiv 2106.07447; as speech tokens Lakhotia et al. 2021, arXiv
2102.01192) and of many since. The folder holds everything, encoder included. ``recipes/fit_units.py`` places the centroids.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from voicegraft.core import artifacts
from voicegraft.core.artifacts import Pretrained, fingerprint
from voicegraft.core.errors import VoicegraftError
from voicegraft.encoders.speech_encoder import SpeechEncoder
from voicegraft.tokenizers.base import TokenizerSpec
from voicegraft.tokenizers.centroids import CentroidUnits

KIND = "encoder-units"
ENCODER = "model"  # folder inside of the artifact's
MAX_UNITS = 4096


@dataclass(frozen=True)
class EncoderUnitsConfig:
    layer: int  # hidden layer of the encoder; 0 is what enters the first
    vocab_size: int  # units
    encoder: str  # fingerprint of the encoder's weights up to that layer

    def __post_init__(self) -> None:
        if not 2 <= self.vocab_size <= MAX_UNITS:
            raise ValueError(f"vocab_size must be from 2 to {MAX_UNITS}, got {self.vocab_size}")


class EncoderUnits(CentroidUnits, Pretrained):
    """Speech to units; ``encode`` sees the whole utterance. The weights are frozen: whoever alters one saves and loads."""

    centre: Tensor  # [D]
    scale: Tensor  # [D]

    def __init__(self, config: EncoderUnitsConfig, encoder: SpeechEncoder):
        super().__init__(config.vocab_size, encoder.width)
        self.config = config
        self.encoder = encoder
        # Taken from every frame, and what it is divided by then: some layers have a few features that dwarf the rest.
        self.register_buffer("centre", torch.zeros(encoder.width))
        self.register_buffer("scale", torch.ones(encoder.width))
        self._fingerprint: str | None = None

    @staticmethod
    def from_encoder(name_or_path: str | Path, layer: int, vocab_size: int) -> EncoderUnits:
        """Units over a layer of a model on the Hub or in a folder; ``place`` gives them their centroids.

        Raises VoicegraftError as ``SpeechEncoder.from_pretrained`` does, or if there would be too many units.
        """
        encoder = SpeechEncoder.from_pretrained(name_or_path, layer)
        try:
            config = EncoderUnitsConfig(layer, vocab_size, fingerprint(encoder.state_dict()))
        except ValueError as error:
            raise VoicegraftError(str(error)) from error
        return EncoderUnits(config, encoder)

    @property
    def spec(self) -> TokenizerSpec:
        c = self.config
        if self._fingerprint is None:
            own = fingerprint(self._own_tensors())
            self._fingerprint = hashlib.sha256(f"{c.encoder}:{own}".encode()).hexdigest()[:16]
        return TokenizerSpec(self.encoder.sample_rate, self.encoder.hop, c.vocab_size, 1, self._fingerprint)

    def standardise(self, features: Tensor) -> None:
        """From now on features have mean 0 and variance 1 over what ``features`` gave as ``[N, D]`` so far."""
        self.centre.add_(features.mean(0) * self.scale)
        self.scale.mul_(features.std(0, correction=0).clamp(min=1e-5))
        self._fingerprint = None

    def place(self, centroids: Tensor) -> None:
        super().place(centroids)
        self._fingerprint = None

    def features(self, samples: Tensor) -> Tensor:
        """Waveforms ``[B, T]`` -> what is clustered, ``[B, T // hop, D]``."""
        return (self.encoder(samples) - self.centre.float()) / self.scale.float()

    def encode(self, samples: Tensor) -> Tensor:
        """Waveforms ``[B, T]`` -> codes ``[B, 1, T // hop]``."""
        return self.units(self.features(samples))

    def save(self, folder: Path, provenance: dict[str, object]) -> None:
        """Writes the units and, below, the encoder as transformers would."""
        config = replace(self.config, encoder=fingerprint(self.encoder.state_dict()))
        with artifacts.atomic_folder(folder) as partial:
            artifacts.save_artifact(partial, KIND, config, self._own_tensors(), provenance)
            self.encoder.save(partial / ENCODER)

    @classmethod
    def load(cls, folder: Path) -> EncoderUnits:
        """What ``save`` wrote; nothing is downloaded.

        Raises:
            VoicegraftError: there is none, or it is damaged.
        """
        artifact = artifacts.load_artifact(folder, KIND, EncoderUnitsConfig)
        inside = artifacts.artifact_folder(folder) / ENCODER
        encoder = SpeechEncoder.load(inside)
        if fingerprint(encoder.state_dict()) != artifact.config.encoder:
            raise VoicegraftError(f"{inside} is damaged: its weights are not those saved; get it anew")
        model = EncoderUnits(artifact.config, encoder)
        model.load_state_dict(artifact.tensors, strict=False)
        return model.eval().requires_grad_(False)

    def _own_tensors(self) -> dict[str, Tensor]:
        return {"centroids": self.centroids, "centre": self.centre, "scale": self.scale}
