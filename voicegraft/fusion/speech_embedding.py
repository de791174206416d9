"""The speech embedding and the speech LM head: the speech vocabulary's own tables, beside the backbone's, which never change.

A position may hold a group of tokens and predict the next group. The tokens of a group are drawn one after the other: a light
head turns the hidden state and a drawn token into the hidden state of the token after it, without another pass of the backbone
(multi-token prediction as in DeepSeek-V3, arXiv 2412.19437, with an MLP for its transformer block).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.data.layouts import MAX_ELAPSED, unit_window
from voicegraft.data.sequences import IGNORE
from voicegraft.data.spelling import LETTER_WINDOW
from voicegraft.tokenizers.vocabulary import SpeechVocabulary

Layout = Literal["guided", "plain"]
ROWS, ROWS_KIND = "rows", "speech-rows"  # folder of the artifact inside an expert's, and what it says it is


@dataclass(frozen=True)
class SpeechEmbeddingConfig:
    """What a speech embedding belongs to; checked when an expert is put on a backbone."""

    vocabulary: SpeechVocabulary
    width: int  # D of the backbone
    place_width: int  # hidden units of the position features
    backbone: str  # fingerprint of the backbone's weights
    semantic: str  # fingerprint of the semantic tokenizer
    # Where the LoRA acts: False on the whole sequence, whose text is then computed anew for speaking; True from the first
    # speech token on, so that keys and values of text that was just written are kept (activated LoRA, arXiv 2504.12397).
    activated: bool = False
    # guided: the expert spells, and is told its place at every position (``data.sequences``). plain: it goes from text to codes
    # by itself; then rows are ordinary rows of an embedding table, which any server of LLMs can hold.
    layout: Layout = "guided"
    frames_per_step: int = 1  # tokens of a group

    def __post_init__(self) -> None:
        if self.frames_per_step < 1:
            raise ValueError(f"frames_per_step must be 1 or more, got {self.frames_per_step}")
        if self.vocabulary.num_runs and self.layout != "plain":
            raise ValueError("run lengths (num_runs) go with the plain layout: guided units end by themselves")


class SpeechEmbedding(nn.Module):
    """Embedding and LM head of the speech vocabulary, and the position features of where its tokens stand."""

    def __init__(self, config: SpeechEmbeddingConfig):
        super().__init__()
        self.config = config
        width = config.width
        guided = config.layout == "guided"
        self.token = nn.Embedding(config.vocabulary.size, width)
        if guided:
            self.units = nn.Embedding(unit_window(config.vocabulary).num_rows, width, padding_idx=0)
            self.elapsed = nn.Embedding(MAX_ELAPSED + 1, width)
            self.letters = nn.Embedding(LETTER_WINDOW.num_rows, width, padding_idx=0)
            # Neighbours mean something together ("ch", "igh"), which a sum of rows cannot tell, nor a frozen backbone well.
            self.place = nn.Sequential(
                nn.RMSNorm(width), nn.Linear(width, config.place_width), nn.GELU(), nn.Linear(config.place_width, width)
            )
        # A causal LM's output layer has no bias: that of the plain layout is to fit there.
        self.head = nn.Linear(width, config.vocabulary.size, bias=guided)
        # Tokens of one group are told apart by a rotation each.
        self.slots = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(config.frames_per_step - 1))
        if config.frames_per_step > 1:
            self.follow = nn.Sequential(
                nn.RMSNorm(2 * width), nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, width)
            )

    def initialise(self, std: float, code_rows: Callable[[int, float], Tensor] | None = None) -> None:
        """Rows as large as the backbone's.

        Args:
            code_rows: width, std -> rows of the codes where codes that sound alike are neighbours (``SemanticEncoder.rows``).
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Embedding) or name == "head":
                nn.init.normal_(cast(Tensor, module.weight), std=std)
        for slot in self.slots:
            nn.init.orthogonal_(cast(nn.Linear, slot).weight)
        if self.config.frames_per_step > 1:
            nn.init.zeros_(cast(nn.Linear, self.follow[-1]).weight)
        if self.config.layout == "guided":
            leave = cast(nn.Linear, self.place[-1])
            nn.init.normal_(leave.weight, std=std * leave.in_features**-0.5)
            for zero in (self.head.bias, leave.bias, self.units.weight[0], self.letters.weight[0]):
                nn.init.zeros_(zero)
        if code_rows is not None:
            codes = slice(self.config.vocabulary.first_code, self.config.vocabulary.first_run)
            with torch.no_grad():
                self.token.weight[codes] = code_rows(self.config.width, std)
                self.head.weight[codes] = code_rows(self.config.width, std)

    def position_features(self, voice: Tensor, units: Tensor, elapsed: Tensor, letters: Tensor) -> Tensor:
        """Ids ``[...]``, units and letters ``[..., width]`` (see ``data.layouts``) -> features ``[..., D]``."""
        rows = self.units(units).sum(-2) + self.elapsed(elapsed) + self.letters(letters).sum(-2) + self.token(voice)
        return rows + self.place(rows)

    def inputs(self, batch: Mapping[str, Tensor], text: Tensor | None, features: Tensor | None = None) -> Tensor:
        """Embeddings ``[B, L, D]`` of a batch of ``data.sequences`` fields ``[B, L]``, in the backbone's type.

        Args:
            text: the backbone's embeddings of ``batch["text"]`` ``[B, L, D]``; what they hold at speech positions is ignored.
                None where there are speech positions only; then the embeddings are in the type of these weights.
            features: position features ``[B, L, D]`` of the guided layout, if they are known already.
        """
        rows = self.token(batch["token"].clamp(min=0))
        if self.config.layout == "guided":
            fields = ("voice", "units", "elapsed", "letters")
            rows = rows + (self.position_features(*(batch[n] for n in fields)) if features is None else features)
        for slot, ids in zip(self.slots, batch["more"].unbind(-1), strict=True):
            rows = rows + slot(self.token(ids.clamp(min=0))) * (ids >= 0)[..., None]
        return rows if text is None else torch.where((batch["token"] >= 0)[..., None], rows.to(text.dtype), text)

    def after(self, hidden: Tensor, token: Tensor) -> Tensor:
        """Hidden states ``[..., D]`` and the tokens drawn from them ``[...]`` -> those of the next tokens of the group."""
        return hidden + self.follow(torch.cat([hidden, self.token(token)], -1))

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states ``[..., D]`` of any type -> logits ``[..., V]`` of the speech vocabulary."""
        return self.head(hidden.to(self.head.weight.dtype))

    def loss(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Hidden states ``[B, L, D]`` of a batch -> mean cross-entropy of its targets, and its parts."""
        wanted = batch["target"] != IGNORE
        hidden = hidden[wanted].to(self.head.weight.dtype)
        target, more = batch["target"][wanted], batch["more_target"][wanted]
        logits = self.head(hidden).float()
        each = F.cross_entropy(logits, target, reduction="none")
        spoken = (
            batch["units"][wanted].any(-1)
            if self.config.layout == "guided"
            else torch.ones_like(target, dtype=torch.bool)
        )
        losses, is_spoken = [each], [spoken]
        for before, following in zip([target, *more.unbind(-1)], more.unbind(-1), strict=False):
            rest = following != IGNORE
            hidden = self.after(hidden, before.clamp(min=0))
            losses.append(F.cross_entropy(self.head(hidden[rest]).float(), following[rest], reduction="none"))
            is_spoken.append(spoken[rest])
        every = torch.cat(losses)
        with torch.no_grad():
            speaking = torch.cat(is_spoken)
            parts = {"speak": every[speaking].mean() if speaking.any() else every.new_zeros(())}
            if self.config.layout == "guided":
                right = (logits.argmax(-1) == target).float()
                parts |= {"g2p": every[~speaking].mean(), "g2p_accuracy": right[~spoken].mean()}
        return every.mean(), parts
