"""The contract between speech tokenizers and everything that uses their tokens: numbers, and a fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class TokenizerSpec:
    """What a language model, a shard or a vocoder needs to know about a speech tokenizer."""

    sample_rate: int  # Hz of the waveform
    hop: int  # samples per token frame
    vocab_size: int  # codes per codebook
    num_codebooks: int  # K
    fingerprint: str  # over all weights: tokens of two tokenizers mix only if it is equal

    @property
    def frame_rate(self) -> float:
        """Token frames per second."""
        return self.sample_rate / self.hop


class SpeechTokenizer(Protocol):
    @property
    def spec(self) -> TokenizerSpec: ...

    def encode(self, samples: Tensor) -> Tensor:
        """Waveforms ``[B, T]`` at ``spec.sample_rate`` -> codes ``[B, K, T // hop]`` (integers)."""
        ...
