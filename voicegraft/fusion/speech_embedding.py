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
from voicegraft.data.spelling import LETTER_WINDOW, Spells
from voicegraft.tokenizers.vocabulary import END_OF_UNIT, SpeechVocabulary

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
    num_layers: int = (
        0  # decoder layers of the backbone that speech passes, from the first on (``fusion.depth``); 0: all
    )
    spells: Spells = "all"  # the guided layout: every word of a sentence, or only those that no lexicon has

    def __post_init__(self) -> None:
        if self.frames_per_step < 1 or self.num_layers < 0:
            raise ValueError(
                f"frames_per_step must be 1 or more and num_layers 0 or more, got {self.frames_per_step}, {self.num_layers}"
            )
        if self.vocabulary.num_runs and self.layout != "plain":
            raise ValueError("run lengths (num_runs) go with the plain layout: guided units end by themselves")


@dataclass(frozen=True)
class Predicted:
    """The N targets of a batch, the first of every group, then the second of every group, and so on."""

    logits: Tensor  # [N, V]
    target: Tensor  # [N]
    spoken: Tensor  # [N] whether it is said and not spelt
    place: Tensor  # [N] grows in the order of reading

    def speaking(self, vocabulary: SpeechVocabulary) -> Tensor:
        """Log-probabilities ``[M, 1 + codes]`` of END_OF_UNIT and of all codes, for what is said, in the order of reading."""
        order = self.place[self.spoken].argsort()
        said = self.logits[self.spoken][order].log_softmax(-1)
        return torch.cat([said[:, [END_OF_UNIT]], said[:, vocabulary.first_code : vocabulary.first_run]], -1)


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

    def predicted(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> Predicted:
        """Hidden states ``[B, L, D]`` of a batch -> what they say of its targets."""
        wanted = batch["target"] != IGNORE
        hidden = hidden[wanted].to(self.head.weight.dtype)
        target, more = batch["target"][wanted], batch["more_target"][wanted]
        guided = self.config.layout == "guided"
        spoken = batch["units"][wanted].any(-1) if guided else torch.ones_like(target, dtype=torch.bool)
        place = torch.arange(wanted.numel(), device=wanted.device)[wanted.flatten()] * self.config.frames_per_step
        logits, targets, is_spoken, places = [self.head(hidden).float()], [target], [spoken], [place]
        pairs = zip([target, *more.unbind(-1)], more.unbind(-1), strict=False)
        for slot, (before, following) in enumerate(pairs, start=1):
            rest = following != IGNORE
            hidden = self.after(hidden, before.clamp(min=0))
            logits.append(self.head(hidden[rest]).float())
            targets.append(following[rest])
            is_spoken.append(spoken[rest])
            places.append(place[rest] + slot)
        return Predicted(torch.cat(logits), torch.cat(targets), torch.cat(is_spoken), torch.cat(places))

    def loss(
        self, hidden: Tensor, batch: Mapping[str, Tensor], taught: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Hidden states ``[B, L, D]`` of a batch -> mean cross-entropy of its targets, and its parts.

        Args:
            taught: for the spoken tokens of the batch, in the order of reading, what a teacher expects ``[M, 1 + codes]``
                (``Predicted.speaking``), in place of the tokens themselves.
        """
        said = self.predicted(hidden, batch)
        every = F.cross_entropy(said.logits, said.target, reduction="none")
        parts = {}
        if taught is not None:
            soft = -(taught.exp() * said.speaking(self.config.vocabulary)).sum(-1)
            if len(taught):
                parts["kl"] = (soft + (taught.exp() * taught).sum(-1)).mean().detach()
            every = torch.cat([every[~said.spoken], soft])
        with torch.no_grad():
            own = F.cross_entropy(said.logits[said.spoken], said.target[said.spoken]) if said.spoken.any() else None
            parts["speak"] = every.new_zeros(()) if own is None else own
            spelt = ~said.spoken
            if spelt.any():
                right = (said.logits[spelt].argmax(-1) == said.target[spelt]).float()
                g2p = F.cross_entropy(said.logits[spelt], said.target[spelt])
                parts |= {"g2p": g2p, "g2p_accuracy": right.mean()}
        return every.mean(), parts
