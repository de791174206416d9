"""The speech vocabulary's own rows: embeddings and output layer, beside the backbone's, which never change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.data.sequences import IGNORE, MAX_ELAPSED, unit_window
from voicegraft.data.spelling import LETTER_WINDOW
from voicegraft.tokenizers.fsq import structured_rows
from voicegraft.tokenizers.vocabulary import SpeechVocabulary


@dataclass(frozen=True)
class RowsConfig:
    """What the speech rows belong to; checked when an expert is put on a backbone."""

    vocabulary: SpeechVocabulary
    width: int  # D of the backbone
    place_width: int  # hidden units of what works out a position's place
    backbone: str  # fingerprint of the backbone's weights
    semantic: str  # fingerprint of the semantic tokenizer
    # Where the LoRA acts: False on the whole sequence, whose text is then computed anew for speaking; True from the first
    # speech token on, so that keys and values of text that was just written are kept (activated LoRA, arXiv 2504.12397).
    activated: bool = False


class SpeechRows(nn.Module):
    """Embedding and output rows of the speech vocabulary, and of the places where its tokens stand."""

    def __init__(self, config: RowsConfig):
        super().__init__()
        self.config = config
        width = config.width
        self.token = nn.Embedding(config.vocabulary.size, width)
        self.units = nn.Embedding(unit_window(config.vocabulary).num_rows, width, padding_idx=0)
        self.elapsed = nn.Embedding(MAX_ELAPSED + 1, width)
        self.letters = nn.Embedding(LETTER_WINDOW.num_rows, width, padding_idx=0)
        # Neighbours mean something together ("ch", "igh"), which a sum of rows cannot tell, nor a frozen backbone well.
        self.place = nn.Sequential(
            nn.RMSNorm(width), nn.Linear(width, config.place_width), nn.GELU(), nn.Linear(config.place_width, width)
        )
        self.head = nn.Linear(width, config.vocabulary.size)

    def initialise(self, std: float, levels: tuple[int, ...] | None = None) -> None:
        """Rows as large as the backbone's; codes that differ in one FSQ digit (``levels``) begin as neighbours."""
        for table in (self.token, self.units, self.elapsed, self.letters, self.head):
            nn.init.normal_(table.weight, std=std)
        leave = cast(nn.Linear, self.place[-1])
        nn.init.normal_(leave.weight, std=std * leave.in_features**-0.5)
        for zero in (self.head.bias, leave.bias, self.units.weight[0], self.letters.weight[0]):
            nn.init.zeros_(zero)
        if levels is not None:
            first = self.config.vocabulary.first_code
            with torch.no_grad():
                self.token.weight[first:] = structured_rows(levels, self.config.width, std)
                self.head.weight[first:] = structured_rows(levels, self.config.width, std)

    def where(self, voice: Tensor, units: Tensor, elapsed: Tensor, letters: Tensor) -> Tensor:
        """Ids ``[...]``, units and letters ``[..., width]`` (see ``data.sequences``) -> what tells a place ``[..., D]``."""
        rows = self.units(units).sum(-2) + self.elapsed(elapsed) + self.letters(letters).sum(-2) + self.token(voice)
        return rows + self.place(rows)

    def inputs(self, batch: Mapping[str, Tensor], text: Tensor) -> Tensor:
        """Embeddings ``[B, L, D]`` of a batch of ``data.sequences`` fields ``[B, L]``.

        Args:
            text: the backbone's embeddings of ``batch["text"]`` ``[B, L, D]``; what they hold at speech positions is ignored.
        """
        places = (batch[name] for name in ("voice", "units", "elapsed", "letters"))
        rows = self.token(batch["token"].clamp(min=0)) + self.where(*places)
        return torch.where((batch["token"] >= 0)[..., None], rows, text)

    def loss(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Hidden states ``[B, L, D]`` of a batch -> mean cross-entropy of its targets, and its parts."""
        wanted = batch["target"] != IGNORE
        logits = self.head(hidden[wanted]).float()
        target = batch["target"][wanted]
        each = F.cross_entropy(logits, target, reduction="none")
        with torch.no_grad():
            spoken = batch["units"][wanted].any(-1)
            right = (logits.argmax(-1) == target).float()
            parts = {
                "think": each[~spoken].mean(),
                "speak": each[spoken].mean() if spoken.any() else each.new_zeros(()),
                "think_accuracy": right[~spoken].mean(),
            }
        return each.mean(), parts
