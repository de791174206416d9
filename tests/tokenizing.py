"""Tokenizers as worker processes open them, some of which kill their process; importable by name there."""

import os
import signal
from pathlib import Path

import torch
from torch import Tensor

from voicegraft.tokenizers.base import SpeechTokenizer, TokenizerSpec
from voicegraft.tokenizers.codec import Codec
from voicegraft.tokenizers.semantic import SemanticTokenizer


def own(work: Path, kind: str, device: str) -> SpeechTokenizer:
    return SemanticTokenizer.load(work / "semantic") if kind == "semantic" else Codec.load(work / "codec")


class Counting:
    """Another tokenizer, of which something happens at the third clip of a process."""

    def __init__(self, inner: SpeechTokenizer):
        self.inner = inner
        self.num_clips = 0

    @property
    def spec(self) -> TokenizerSpec:
        return self.inner.spec

    def encode(self, samples: Tensor) -> Tensor:
        self.num_clips += 1
        if self.num_clips == 3:
            self.third()
        return self.inner.encode(samples)

    def save(self, folder: Path, provenance: dict[str, object]) -> None:
        raise NotImplementedError

    def third(self) -> None:
        raise KeyboardInterrupt


class Mortal(Counting):
    def __init__(self, inner: SpeechTokenizer, marker: Path):
        super().__init__(inner)
        self.marker = marker

    def third(self) -> None:
        try:
            self.marker.unlink()
        except FileNotFoundError:
            return  # another one has died already
        os.kill(os.getpid(), signal.SIGKILL)


def interrupted(work: Path, kind: str, device: str) -> SpeechTokenizer:
    return Counting(own(work, kind, device))


def mortal(work: Path, kind: str, device: str) -> SpeechTokenizer:
    """Kills the first process that reaches its third clip while there is a file ``mortal`` in the work folder."""
    return Mortal(own(work, kind, device), work / "mortal")


class Wide:
    """More codes than 16 bits hold."""

    spec = TokenizerSpec(sample_rate=16_000, hop=320, vocab_size=70_000, num_codebooks=2, fingerprint="wide")

    def encode(self, samples: Tensor) -> Tensor:
        num_frames = samples.shape[1] // self.spec.hop
        return torch.full((1, 2, num_frames), 69_999)

    def save(self, folder: Path, provenance: dict[str, object]) -> None:
        raise NotImplementedError
