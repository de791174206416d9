"""Mimi, DAC and EnCodec from ``transformers`` as acoustic tokens, and back to sound as a stream.

    codec = HfCodec.from_model("kyutai/mimi", num_codebooks=8)
    codes = codec.encode(samples)                         # [B, K, T], those of the model's own encode
    state = codec.start()
    samples, state = codec.step(latents, state)           # the model's own decode, in pieces of any size

What is quantised and decoded is the published model's; that it decodes in pieces is ours (``streaming_conv.py``), exact and
without computing anything twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from voicegraft.core.artifacts import (
    Pretrained,
    artifact_folder,
    atomic_folder,
    fingerprint,
    load_artifact,
    save_artifact,
)
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.library_logging import quietly
from voicegraft.encoders.hub_models import load_pretrained
from voicegraft.tokenizers.base import FrameDecoder, TokenizerSpec
from voicegraft.tokenizers.codec_families import FAMILIES, unfit
from voicegraft.tokenizers.streaming_conv import Chain

KIND = "hf-codec"
MODEL = "model"  # the folder that transformers wrote, inside ours
TRAINING_ONLY = ("inited", "initialized", "cluster_size", "embed_avg")  # beside the codebooks; no code depends on them


@dataclass(frozen=True)
class HfCodecConfig:
    num_codebooks: int  # K, the first ones of the model's
    fingerprint: str  # over the weights that are used; others beside it are refused


@dataclass(frozen=True)
class DecodeState:
    """Everything that decoding carries from step to step."""

    stages: Any
    batch: int
    num_frames: int  # that came
    num_samples: int  # that were handed out


class HfCodec(Pretrained, FrameDecoder):
    """An ``AcousticCodec`` and the ``FrameDecoder`` of its frames; the weights stay as they are.

    model: a codec of one of ``FAMILIES``, such as ``transformers.MimiModel``.
    num_codebooks: how many of its codebooks are used, the first ones; all if None.

    Raises:
        VoicegraftError: more codebooks than there are or too few to decode, or a model that cannot be streamed.
    """

    codebooks: Tensor  # [K, V, W]

    def __init__(self, model: Any, num_codebooks: int | None = None):
        super().__init__()
        config = model.config
        if wrong := unfit(config):
            raise VoicegraftError(
                f"this {config.model_type} cannot be decoded piece by piece ({', '.join(wrong)}); "
                "take a causal mono model, such as EnCodec at 24 kHz"
            )
        if model.encoder is None or model.decoder is None:
            raise VoicegraftError(f"expected a whole {config.model_type}, found a half of one; take the full model")
        self.model = model
        self._family = FAMILIES[config.model_type]
        fewest, most = self._family.fewest(model), len(self._family.quantizers(model))
        self.num_codebooks = most if num_codebooks is None else num_codebooks
        if not fewest <= self.num_codebooks <= most:
            raise VoicegraftError(
                f"expected {fewest} to {most} codebooks of this {config.model_type}, got {num_codebooks}; change num_codebooks"
            )
        self.decoder = Chain(self._family.stages(model))
        self.sample_rate, self.hop = int(config.sampling_rate), self.decoder.stride
        self.register_buffer("codebooks", self._family.entries(model, self.num_codebooks), persistent=False)
        self.eval().requires_grad_(False)

    @staticmethod
    def from_model(name_or_path: str | Path, num_codebooks: int | None = None) -> HfCodec:
        """From a folder that ``transformers`` wrote or a name on the hub, e.g. ``facebook/encodec_24khz``; may download.

        Raises:
            VoicegraftError: not such a model, of a type that is not in ``FAMILIES``, or as above.
        """
        return HfCodec(load_pretrained(name_or_path, "codec", FAMILIES), num_codebooks)

    @property
    def spec(self) -> TokenizerSpec:
        return TokenizerSpec(self.sample_rate, self.hop, self.codebooks.shape[1], self.num_codebooks, self.codec)

    @cached_property
    def codec(self) -> str:
        """Fingerprint over the weights that are used, worked out once."""
        spare = set(self._family.quantizers(self.model)[self.num_codebooks :])
        unused = tuple(f"{name}." for name, module in self.model.named_modules() if module in spare)
        used = {
            name: tensor
            for name, tensor in self.model.state_dict().items()
            if not name.startswith(unused) and not name.endswith(TRAINING_ONLY)
        }
        return fingerprint(used)

    @property
    def ahead(self) -> int:
        """Frames that must follow a frame before all its sound is out, in the midst of a stream."""
        midst = 10_000
        return self.decoder.needs(midst * self.hop) - midst

    @property
    def first(self) -> int:
        """Frames that must have come before the first sound."""
        return self.decoder.needs(1)

    def encode(self, samples: Tensor) -> Tensor:
        """Waveforms ``[B, T]`` at ``sample_rate`` -> codes ``[B, K, T // hop]``: those of the model's own ``encode``."""
        num_frames = samples.shape[-1] // self.hop
        if not num_frames:
            return samples.new_zeros(len(samples), self.num_codebooks, 0).long()
        # What is left over after the last whole frame makes the model add a frame.
        return self._family.encode(self.model, samples, self.num_codebooks)[:, : self.num_codebooks, :num_frames]

    def start(self, batch: int = 1) -> DecodeState:
        """State before the first frame."""
        return DecodeState(self.decoder.start(batch, self.codebooks), batch, 0, 0)

    def step(self, latents: Tensor, state: DecodeState) -> tuple[Tensor, DecodeState]:
        """Next frames ``[B, W, T]`` -> the samples that became final ``[B, <= T * hop]``, new state.

        Only a codec that mirrors its first frames hands out more, once, when enough of them have come.
        """
        samples, stages = self.decoder.step(latents, state.stages, last=False)
        num_frames, num_samples = state.num_frames + latents.shape[-1], state.num_samples + samples.shape[-1]
        return samples[:, 0], DecodeState(stages, state.batch, num_frames, num_samples)

    def finish(self, state: DecodeState) -> Tensor:
        """The samples that were still waiting ``[B, T]``: then there are as many as frames times ``hop``.

        A DAC of odd strides makes a few less; silence takes their place.
        """
        waiting = state.num_frames * self.hop - state.num_samples
        if not waiting:
            return self.codebooks.new_zeros(state.batch, 0)
        nothing = self.codebooks.new_zeros(state.batch, self.codebooks.shape[-1], 0)
        samples, _ = self.decoder.step(nothing, state.stages, last=True)
        return F.pad(samples[:, 0], (0, waiting - samples.shape[-1]))

    def save(self, folder: Path, provenance: dict[str, object]) -> None:
        """The whole model, so that nothing is needed besides."""
        with atomic_folder(folder) as partial:
            save_artifact(partial, KIND, HfCodecConfig(self.num_codebooks, self.codec), {}, provenance)
            with quietly():
                self.model.save_pretrained(partial / MODEL)
            for weights in (partial / MODEL).glob("*.safetensors"):
                weights.chmod(0o644)  # safetensors writes for the owner only

    @classmethod
    def load(cls, folder: Path) -> HfCodec:
        """What ``save`` wrote; nothing is downloaded.

        Raises:
            VoicegraftError: it is not there, damaged, or of another kind.
        """
        config = load_artifact(folder, KIND, HfCodecConfig).config
        model = load_pretrained(artifact_folder(folder) / MODEL, "codec", FAMILIES)
        codec = HfCodec(model, config.num_codebooks)
        if codec.codec != config.fingerprint:
            raise VoicegraftError(f"{folder} is damaged: its weights are not those that were saved; get it anew")
        return codec
