"""Connectors: what an encoder hears, as vectors among a text LLM's token embeddings.

One contract, one small file per kind. A connector belongs to the encoder and to the backbone whose fingerprints it bears.
Another kind is a class here and a line in ``KINDS``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.core.artifacts import Pretrained, artifact_kind
from voicegraft.core.config import from_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.encoders.listening import Ears
from voicegraft.fusion.backbone import backbone_fingerprint

WANTED = "connector"  # in errors
KINDS = {  # kind of artifact -> class; imported when it is needed
    "connector-stack": "stack:Stack",
    "connector-convolution": "convolution:Convolution",
    "connector-conformer": "conformer:Conformer",
    "connector-qformer": "qformer:QFormer",
    "connector-aligned": "aligned:Aligned",
    "connector-states": "states:States",
}


@dataclass(frozen=True)
class ConnectorConfig:
    input_width: int  # of the encoder's frames
    output_width: int  # of the backbone's embeddings
    encoder: str  # fingerprint of the Ears that it reads
    backbone: str  # fingerprint of the LLM that it speaks to


@dataclass(frozen=True, eq=False)
class Heard:
    vectors: Tensor  # [B, N, D]; what stands behind a row's length means nothing
    lengths: Tensor  # [B] int64

    def rows(self) -> list[Tensor]:
        """The vectors of each, ``[N_i, D]``."""
        return [row[:length] for row, length in zip(self.vectors, self.lengths.tolist(), strict=True)]


class Connector(Pretrained):
    """``forward(frames [B, T, W], lengths [B]) -> Heard``; padding never changes what a row becomes."""

    STORED_AS = torch.float16
    READS = False  # whether it can tell what is said, without the LLM
    NEEDS_EARS = False  # whether it knows its words by the recogniser that it reads
    config: ConnectorConfig

    def forward(self, frames: Tensor, lengths: Tensor) -> Heard:
        raise NotImplementedError

    def read(self, frames: Tensor, lengths: Tensor) -> list[list[int]]:
        """The LLM's tokens of what is said in each, by the connector alone; for kinds that ``READS``."""
        raise NotImplementedError

    def attach(self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, fingerprint: str = "") -> None:
        """Makes sure that it belongs to this backbone, and takes from it what it needs, sharing the memory.

        Args:
            fingerprint: the backbone's, where it is known already; reading all weights takes a second.

        Raises:
            VoicegraftError: it belongs to another backbone.
        """
        _agree("backbone", "embeddings", self.config.output_width, embedding_rows(backbone).shape[1])
        _agree("backbone", "fingerprint", self.config.backbone, fingerprint or backbone_fingerprint(backbone))

    def attach_ears(self, ears: Ears) -> None:
        """As ``attach``, of what it reads. Raises VoicegraftError: it reads the frames of another encoder."""
        self.check_encoder(ears.width, ears.fingerprint)

    def check_encoder(self, width: int, fingerprint: str) -> None:
        """Raises VoicegraftError where it reads the frames of another encoder."""
        _agree("encoder", "frames", self.config.input_width, width)
        _agree("encoder", "fingerprint", self.config.encoder, fingerprint)


def open_connector(folder: Path) -> Connector:
    """The connector in a folder, its weights frozen; ``attach`` and ``check_encoder`` tell whether it fits.

    Raises:
        VoicegraftError: there is none, it is damaged, or of a kind that this version does not know.
    """
    kind = artifact_kind(folder, WANTED)
    if kind not in KINDS:
        raise VoicegraftError(f"expected a {WANTED} in {folder}, found a {kind}; check the path")
    module, name = KINDS[kind].split(":")
    found: Connector = getattr(import_module(f"{__package__}.{module}"), name).load(folder)
    return found


def embedding_rows(backbone: PreTrainedModel) -> Tensor:
    """The token embeddings ``[V, D]``, frozen; they share the backbone's memory."""
    return cast(nn.Embedding, backbone.get_input_embeddings()).weight.detach()


def new_connector(kind: str, shape: Mapping[str, Any], fits: ConnectorConfig) -> Connector:
    """A fresh one of a kind of ``KINDS``, without ``connector-``.

    Args:
        shape: its own settings.

    Raises:
        VoicegraftError: no such kind, or settings that it does not have.
    """
    kinds = [name.removeprefix("connector-") for name in KINDS]
    if kind not in kinds:
        raise VoicegraftError(f"expected a connector of {', '.join(kinds)}, got {kind!r}")
    cls = _class_of(f"connector-{kind}")
    made: Connector = cls(from_dict(cls.CONFIG, {**shape, **vars(fits)}, origin=kind))
    return made


def _class_of(kind: str) -> type[Connector]:
    module, name = KINDS[kind].split(":")
    found: type[Connector] = getattr(import_module(f"{__package__}.{module}"), name)
    return found


def made_of(ends: Sequence[int], new_ends: Sequence[int]) -> list[list[int]]:
    """A text is cut in two ways, told by where the pieces end: which of the first, by place, each of the second is made of."""
    last = len(ends) - 1
    first = np.minimum(np.searchsorted(ends, [0, *new_ends[:-1]], "right"), last)
    until = np.minimum(np.searchsorted(ends, new_ends, "left"), last)
    return [list(range(a, max(a, b) + 1)) for a, b in zip(first.tolist(), until.tolist(), strict=False)]


def inside(lengths: Tensor, size: int) -> Tensor:
    """Which of ``size`` places are no padding: bool ``[B, size]``."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def silenced(x: Tensor, lengths: Tensor) -> Tensor:
    """``x [B, T, W]`` with zeros behind each row's length, as convolutions expect."""
    return x.masked_fill(~inside(lengths, x.shape[1])[..., None], 0.0)


class Strided(nn.Module):
    """A convolution over time whose rows do not see their padding: length -> ceil(length / stride)."""

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int):
        super().__init__()
        self.convolution = nn.Conv1d(width_in, width_out, kernel, stride, padding=kernel // 2)
        self.stride = stride

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, T, W]``, ``[B]`` -> ``[B, T', W']``, ``[B]``."""
        y = self.convolution(silenced(x, lengths).transpose(1, 2)).transpose(1, 2)
        return y, divided(lengths, self.stride)


def divided(lengths: Tensor, by: int) -> Tensor:
    """Rounded up."""
    return -(-lengths // by)


def _agree(what: str, part: str, mine: Any, theirs: Any) -> None:
    if mine != theirs:
        raise VoicegraftError(
            f"the connector was made for an {what} of other kind ({part}: expected {mine}, got {theirs}); take the "
            f"{what} that its card names, or train a connector for this one"
        )
