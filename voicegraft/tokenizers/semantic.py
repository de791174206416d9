"""Semantic tokens: one stream of units that carry what is said and its melody, not who says it.

A convolutional encoder reads log-mels from which the speaker's average spectrum has been taken, and an FSQ bottleneck
turns every 20 ms into one code. What makes the code *semantic* is its training (``SemanticTrainer``): from the codes
alone small heads must tell the phone and the relative pitch, and only a decoder that is told the speaker may rebuild
the mel. The input is warped in frequency at random while the target is not, so the length of a vocal tract is no help.

Supervised discrete units follow S3 / CosyVoice (arXiv 2407.05407) and FSQ in CosyVoice 2 (arXiv 2412.10117).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.audio.mel import LogMel, MelConfig
from voicegraft.core.artifacts import Pretrained, fingerprint
from voicegraft.tokenizers.base import TokenizerSpec
from voicegraft.tokenizers.fsq import FSQ, structured_rows


@dataclass(frozen=True)
class SemanticConfig:
    mel: MelConfig = field(default_factory=MelConfig)
    stride: int = 2  # mel frames per token
    width: int = 256  # channels
    dilations: tuple[int, ...] = (1, 2, 4, 1, 2, 4)  # one residual block each
    kernel: int = 5  # frames
    levels: tuple[int, ...] = (7, 7, 5, 5)  # FSQ; the vocabulary is their product
    num_phones: int = 41  # classes of the phone head: 40 phones, then silence
    num_speakers: int = 8  # speakers that the mel decoder may be told


class ConvBlock(nn.Module):
    """Residual: norm -> dilated convolution -> GELU -> pointwise, on ``[B, D, T]``; sees both sides of a frame."""

    def __init__(self, width: int, kernel: int, dilation: int):
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.spread = nn.Conv1d(width, width, kernel, padding=dilation * (kernel // 2), dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(F.gelu(self.spread(self.norm(x))))


class SemanticTokenizer(Pretrained):
    """Speech to units. ``encode`` sees the whole utterance: it runs in training and for listening, not for speaking."""

    # float16 as shipped is what counts: tokens are made by the stored weights, so the fingerprint is theirs.
    KIND, CONFIG, STORED_AS = "semantic-tokenizer", SemanticConfig, torch.float16

    def __init__(self, config: SemanticConfig):
        super().__init__()
        self.config = config
        c = config
        self.log_mel = LogMel(c.mel)
        self.enter = nn.Conv1d(c.mel.num_mels, c.width, c.kernel, stride=c.stride, padding=c.kernel // 2)
        self.blocks = nn.Sequential(*(ConvBlock(c.width, c.kernel, d) for d in c.dilations))
        self.leave = nn.Conv1d(c.width, len(c.levels), 1)
        self.spread = nn.BatchNorm1d(len(c.levels), affine=False)  # keeps every level of every digit in use
        self.fsq = FSQ(c.levels)

    @property
    def spec(self) -> TokenizerSpec:
        c = self.config
        return TokenizerSpec(c.mel.sample_rate, c.mel.hop * c.stride, self.fsq.vocab_size, 1, self.fingerprint())

    def fingerprint(self) -> str:
        return fingerprint(self.state_dict())

    def encode(self, samples: Tensor) -> Tensor:
        """Waveforms ``[B, T]`` -> codes ``[B, 1, T // hop]``."""
        return self.encode_mel(self.log_mel(samples))

    def encode_mel(self, mel: Tensor) -> Tensor:
        """Log-mels ``[B, M, T]`` -> codes ``[B, 1, T // stride]``."""
        _, codes = self.fsq(self.latents(mel))
        return codes[:, None, : mel.shape[-1] // self.config.stride]

    def latents(self, mel: Tensor) -> Tensor:
        """Log-mels ``[B, M, T]`` -> what is quantised, ``[B, ceil(T / stride), len(levels)]``."""
        flat = (mel - mel.mean(-1, keepdim=True)) / 2.0
        return self.spread(self.leave(self.blocks(self.enter(flat)))).transpose(1, 2)

    def rows(self, width: int, std: float) -> Tensor:
        """Embedding rows ``[V, width]`` to begin with: codes that differ in one digit are neighbours."""
        return structured_rows(self.config.levels, width, std)

    def perturb(self, codes: Tensor, share: float) -> Tensor:
        """Codes of any shape with this share of their digits off by one."""
        return self.fsq.perturb(codes, share)


class SemanticTrainer(nn.Module):
    """The tokenizer with the heads that teach it. ``phone_logits`` also aligns recordings with their text."""

    def __init__(self, tokenizer: SemanticTokenizer):
        super().__init__()
        c = tokenizer.config
        self.tokenizer = tokenizer
        self.read = nn.Conv1d(len(c.levels), c.width, 3, padding=1)
        self.trunk = nn.Sequential(*(ConvBlock(c.width, c.kernel, d) for d in (1, 2, 1)))
        self.phone_head = nn.Conv1d(c.width, c.num_phones, 1)
        self.pitch_head = nn.Conv1d(c.width, 2, 1)  # voicing logit, log pitch relative to the utterance's median
        self.speaker = nn.Embedding(c.num_speakers, c.width)
        self.mel_blocks = nn.Sequential(*(ConvBlock(c.width, c.kernel, d) for d in (1, 2)))
        self.mel_head = nn.Conv1d(c.width, c.mel.num_mels * c.stride, 1)

    def heads(self, quantised: Tensor, speaker: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """FSQ values ``[B, T, D]``, speaker numbers ``[B]`` -> phone logits ``[B, C, T]``, pitch ``[B, 2, T]``,
        log-mels ``[B, M, T * stride]``."""
        c = self.tokenizer.config
        h = self.trunk(self.read(quantised.transpose(1, 2)))
        told = h + self.speaker(speaker)[:, :, None]
        mel = self.mel_head(self.mel_blocks(told))  # [B, M * stride, T]
        mel = mel.reshape(len(mel), c.mel.num_mels, c.stride, -1).transpose(2, 3).flatten(2)
        return self.phone_head(h), self.pitch_head(h), mel * 2.0 - 5.0

    def forward(
        self, mel: Tensor, target: Tensor, phones: Tensor, pitch: Tensor, speaker: Tensor, noise_share: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its parts.

        Args:
            mel: log-mels to encode ``[B, M, T * stride]``, perhaps warped; target: the same, not warped.
            phones: labels ``[B, T]``, -100 where unknown.
            pitch: relative log pitch ``[B, T]``, NaN where unvoiced.
            speaker: numbers ``[B]``.
        """
        quantised, codes = self.tokenizer.fsq(self.tokenizer.latents(mel), noise_share)
        phone_logits, pitch_out, rebuilt = self.heads(quantised, speaker)
        phone_loss = F.cross_entropy(phone_logits.float(), phones, ignore_index=-100, label_smoothing=0.05)
        mel_loss = (rebuilt.float() - target).abs().mean() / 2.0
        voiced = ~pitch.isnan()
        voicing_loss = F.binary_cross_entropy_with_logits(pitch_out[:, 0].float(), voiced.float())
        error = (pitch_out[:, 1].float() - pitch.nan_to_num()).abs() * voiced
        pitch_loss = error.sum() / voiced.sum().clamp(min=1)
        loss = phone_loss + 2.0 * mel_loss + 0.2 * voicing_loss + 1.0 * pitch_loss
        with torch.no_grad():
            known = phones >= 0
            hits = ((phone_logits.argmax(1) == phones) & known).sum() / known.sum().clamp(min=1)
            used = torch.bincount(codes.flatten(), minlength=self.tokenizer.fsq.vocab_size).float()
            share = used / used.sum()
            perplexity = torch.exp(-(share * (share + 1e-9).log()).sum())
        parts = {"phone": phone_loss, "phone_accuracy": hits, "mel": mel_loss, "pitch": pitch_loss}
        return loss, {**parts, "code_perplexity": perplexity}


def warp_frequency(mel: Tensor, factor: Tensor) -> Tensor:
    """Stretches the mel axis of ``[B, M, T]`` by ``factor`` ``[B]`` (1 = as it was), like another vocal tract."""
    num_mels = mel.shape[1]
    position = torch.arange(num_mels, device=mel.device) * factor[:, None]
    position = position.clamp(max=num_mels - 1)
    low = position.floor().long()
    high = (low + 1).clamp(max=num_mels - 1)
    weight = (position - low)[..., None]
    pick = [i[..., None].expand(-1, -1, mel.shape[2]) for i in (low, high)]
    return mel.gather(1, pick[0]) * (1 - weight) + mel.gather(1, pick[1]) * weight
