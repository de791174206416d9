"""The contracts between speech tokenizers and everything that uses their tokens: numbers, a fingerprint, few methods.

Whoever trains on tokens or speaks with them knows these protocols only. ``tokenizers/loading.py`` opens whatever lies in a
folder; a new tokenizer is a class that fits one of the protocols and a line there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
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

    def save(self, folder: Path, provenance: dict[str, object]) -> None:
        """Writes a folder that ``tokenizers.loading`` reads."""
        ...


class SemanticEncoder(SpeechTokenizer, Protocol):
    """One stream of units, K = 1, and what is known of how the units relate."""

    def rows(self, width: int, std: float) -> Tensor:
        """Embedding rows ``[V, width]`` to begin training from, where units that sound alike are neighbours."""
        ...

    def perturb(self, codes: Tensor, share: float) -> Tensor:
        """Codes of any shape with about this share replaced by units that sound alike: the errors of a generator."""
        ...


class AcousticCodec(SpeechTokenizer, Protocol):
    """Residual codes: the entries of a frame's K codes add up to what the decoder reads."""

    @property
    def codebooks(self) -> Tensor:
        """Entries ``[K, V, W]``."""
        ...


class FrameDecoder(Protocol):
    """Frames, which are sums of codebook entries or lie between them, to sound, piece by piece.

    State is a value outside the weights: the same decoder serves many streams.
    """

    codebooks: Tensor  # [K, V, W]
    sample_rate: int  # Hz
    hop: int  # samples per frame

    @property
    def codec(self) -> str:
        """Fingerprint of the codec whose entries it reads."""
        ...

    def start(self, batch: int = 1) -> Any:
        """The state before the first frame."""
        ...

    def step(self, latents: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Next frames ``[B, W, T]`` -> the samples that became final ``[B, <= T * hop]`` and the state after them."""
        ...

    def finish(self, state: Any) -> Tensor:
        """The samples that were still waiting ``[B, T]``: then there are as many as frames times ``hop``."""
        ...

    def next_samples(self, frames: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """``step`` for one stream, on arrays: frames ``[T, W]`` -> float32 samples."""
        with torch.inference_mode():
            samples, state = self.step(torch.from_numpy(frames).mT[None].to(self.codebooks), state)
            return samples[0].float().cpu().numpy(), state

    def last_samples(self, state: Any) -> np.ndarray:
        """``finish`` for one stream, on arrays."""
        with torch.inference_mode():
            return self.finish(state)[0].float().cpu().numpy()
