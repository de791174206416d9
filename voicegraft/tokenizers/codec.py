"""Acoustic tokens: a causal convolutional autoencoder of full-band log-mels with residual vector quantisation.

The waveform's phase is not coded: hearing hardly needs it, and the vocoder makes its own. That leaves 20 ms frames that
eight small codebooks describe well, cheap enough to train anywhere. ``encode`` looks 16 ms ahead of a frame (half an
analysis window) and no further; the decoder side never looks ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.audio.mel import LogMel, MelConfig
from voicegraft.core.artifacts import Pretrained, fingerprint, load_artifact, save_artifact
from voicegraft.tokenizers.base import TokenizerSpec
from voicegraft.tokenizers.rvq import RVQ

TRAINING_ONLY = ("rvq.sums", "rvq.counts")  # moving averages behind the codebooks


@dataclass(frozen=True)
class CodecConfig:
    mel: MelConfig = field(default_factory=lambda: MelConfig(num_mels=100, high_hz=12_000.0))
    stride: int = 2  # mel frames per token frame
    width: int = 192  # channels
    dilations: tuple[int, ...] = (1, 2, 4, 1)  # residual blocks of the encoder, and again of the decoder
    latent_width: int = 64  # what is quantised
    num_codebooks: int = 8  # K
    codebook_size: int = 256  # entries each


class CausalConv(nn.Conv1d):
    """A convolution over ``[B, D, T]`` that sees the past only."""

    def forward(self, x: Tensor) -> Tensor:
        reach = (self.kernel_size[0] - 1) * self.dilation[0] - (self.stride[0] - 1)
        return super().forward(F.pad(x, (reach, 0)))


class CausalBlock(nn.Module):
    """Residual: per-frame norm -> dilated causal convolution -> GELU -> pointwise."""

    def __init__(self, width: int, kernel: int, dilation: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.spread = CausalConv(width, width, kernel, dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(F.gelu(self.spread(self.norm(x.transpose(1, 2)).transpose(1, 2))))


class Codec(Pretrained):
    def __init__(self, config: CodecConfig):
        super().__init__()
        c = self.config = config
        self.log_mel = LogMel(c.mel)
        self.enter = CausalConv(c.mel.num_mels, c.width, 2 * c.stride, stride=c.stride)
        self.encoder = nn.Sequential(*(CausalBlock(c.width, 3, d) for d in c.dilations))
        self.leave = nn.Conv1d(c.width, c.latent_width, 1)
        self.rvq = RVQ(c.num_codebooks, c.codebook_size, c.latent_width)
        self.read = CausalConv(c.latent_width, c.width, 3)
        self.decoder = nn.Sequential(*(CausalBlock(c.width, 3, d) for d in c.dilations))
        self.mel_head = nn.Conv1d(c.width, c.mel.num_mels * c.stride, 1)

    @property
    def spec(self) -> TokenizerSpec:
        c = self.config
        return TokenizerSpec(
            c.mel.sample_rate, c.mel.hop * c.stride, c.codebook_size, c.num_codebooks, self.fingerprint()
        )

    @property
    def codebooks(self) -> Tensor:
        return self.rvq.codebooks

    def fingerprint(self) -> str:
        return fingerprint({n: t for n, t in self.state_dict().items() if n not in TRAINING_ONLY})

    def encode(self, samples: Tensor) -> Tensor:
        """Waveforms ``[B, T]`` -> codes ``[B, K, T // hop]``."""
        return self.encode_mel(self.log_mel(samples))

    def encode_mel(self, mel: Tensor) -> Tensor:
        """Log-mels ``[B, M, T]`` -> codes ``[B, K, T // stride]``: how a model that writes mels reaches the vocoder."""
        return self.rvq.encode(self._latents(mel))

    def decode_mel(self, codes: Tensor) -> Tensor:
        """Codes ``[B, K, T]`` -> log-mels ``[B, M, T * stride]``; the vocoder makes sound from the codes themselves."""
        return self._rebuild(self.rvq.decode(codes))

    def forward(self, samples: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss on waveforms ``[B, T]``, and its parts."""
        mel = self.log_mel(samples)
        quantised, codes, commitment = self.rvq(self._latents(mel))
        rebuilt = self._rebuild(quantised).float()
        mel = mel[..., : rebuilt.shape[-1]]
        mel_loss = (rebuilt - mel).abs().mean()
        used = torch.stack(
            [
                codes[:, k].unique().numel() / codes.new_tensor(self.config.codebook_size).float()
                for k in range(self.config.num_codebooks)
            ]
        )
        return mel_loss + 0.25 * commitment, {"mel": mel_loss, "commitment": commitment, "codes_used": used.mean()}

    def _latents(self, mel: Tensor) -> Tensor:
        usable = mel.shape[-1] // self.config.stride * self.config.stride
        scaled = (mel[..., :usable] + 5.0) / 3.0
        return self.leave(self.encoder(self.enter(scaled))).transpose(1, 2)

    def _rebuild(self, quantised: Tensor) -> Tensor:
        c = self.config
        out = self.mel_head(self.decoder(self.read(quantised.transpose(1, 2))))
        return out.reshape(len(out), c.mel.num_mels, c.stride, -1).transpose(2, 3).flatten(2) * 3.0 - 5.0

    def save(self, folder: Path, provenance: dict[str, object]) -> None:
        tensors = {name: tensor for name, tensor in self.state_dict().items() if name not in TRAINING_ONLY}
        save_artifact(folder, "codec", self.config, tensors, provenance, torch.float16)

    @classmethod
    def load(cls, folder: Path) -> Codec:
        artifact = load_artifact(folder, "codec", CodecConfig)
        model = Codec(artifact.config)
        averages = {"rvq.sums": artifact.tensors["rvq.codebooks"], "rvq.counts": model.rvq.counts}
        model.load_state_dict({**averages, **artifact.tensors})
        return model.eval().requires_grad_(False)
