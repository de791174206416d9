"""Training of what hears: a connector between a frozen encoder and a frozen LLM; a LoRA and the encoder may learn too."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.core.artifacts import fingerprint
from voicegraft.data.chat import AnsweredQuestion, collate_answers, filler_id
from voicegraft.encoders.listening import Ears
from voicegraft.fusion.connectors.base import Connector
from voicegraft.fusion.experts import (
    LISTENING,
    Belongs,
    LoraSettings,
    attach_lora,
    check_identity,
    save_lora,
    take_adapter,
)
from voicegraft.fusion.listening import CONNECTOR, embedded

ENCODER = "encoder"  # folder of a listening pack whose encoder was trained
_LEAST = 1e-6  # of a probability that is what others leave over


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of a recording that stands in a sequence."""

    sound: Tensor  # the encoder's frames [N, W], or the recording's samples [T] where the encoder learns
    begin: int = 0  # frames
    end: int | None = None  # frames; None: to the end


@dataclass(frozen=True, eq=False)
class ListeningBatch:
    """Sequences in which ``AUDIO`` stands once for each of ``heard``, in their order."""

    items: Sequence[AnsweredQuestion]
    heard: Sequence[Piece]
    top_ids: (
        Tensor  # [M, k] for all tokens of the answers, row after row: what a reader of the text would write; -1: none
    )
    top_logprobs: Tensor  # [M, k]


class ListeningTraining(nn.Module):
    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        connector: Connector,
        lora: LoraSettings | None = None,
        ears: Ears | None = None,
        by_distribution: bool = True,
    ):
        """
        Args:
            lora: of the listening expert; None leaves the LLM as it is.
            ears: the encoder, where it is to learn: sounds are then samples, else its frames.
            by_distribution: learns the distribution over tokens where it is known, else the tokens alone.
        """
        super().__init__()
        self.tokenizer, self.by_distribution = tokenizer, by_distribution
        self.belongs = Belongs.to(backbone, tokenizer)
        connector.attach(backbone, tokenizer, self.belongs.backbone)
        self.connector = connector.requires_grad_(True)
        self.ears = ears
        self.peft_model = None if lora is None else attach_lora(backbone, lora, LISTENING)
        self.backbone = backbone.requires_grad_(False) if self.peft_model is None else backbone
        self._chooses = "logits_to_keep" in inspect.signature(backbone.forward).parameters

    def forward(self, batch: ListeningBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss of a token of the answers: the divergence from what a reader of the text would write, or cross-entropy."""
        logits, target = self.answers(batch)
        each = cross = F.cross_entropy(logits, target, reduction="none")
        metrics = {"cross_entropy": cross.detach().mean(), "agreement": (logits.argmax(-1) == target).float().mean()}
        known = (batch.top_ids >= 0).any(-1).to(logits.device)
        if known.any():
            kl = divergence(logits, batch.top_ids.to(logits.device), batch.top_logprobs.to(logits.device))
            each = torch.where(known, kl, cross) if self.by_distribution else each
            metrics["kl"] = kl.detach()[known].mean()
        return each.mean(), metrics

    def answers(self, batch: ListeningBatch) -> tuple[Tensor, Tensor]:
        """Logits ``[M, V]`` of all tokens of the answers, row after row, and these tokens ``[M]``."""
        vectors = self.hear(batch.heard)
        counts = iter(map(len, vectors))
        items = [item.widened([next(counts) for i in item.ids if i < 0]) for item in batch.items]
        rows = collate_answers(items, filler_id(self.tokenizer), self.backbone.device)
        wanted = rows["answer"][:, 1:]
        places = wanted.any(0).nonzero()[:, 0]  # of one row or another: the vocabulary is large, its logits are dear
        out = self.backbone(
            inputs_embeds=embedded(self.backbone, rows["input_ids"], vectors),
            use_cache=False,
            **({"logits_to_keep": places} if self._chooses else {}),
        )
        logits = out.logits if self._chooses else out.logits[:, places]
        return logits[wanted[:, places]].float(), rows["input_ids"][:, 1:][wanted]

    def hear(self, heard: Sequence[Piece]) -> list[Tensor]:
        """The connector's vectors ``[N, D]`` of each piece."""
        if not heard:
            return []
        frames = [piece.sound for piece in heard]
        if self.ears is not None:
            once = {id(sound): sound for sound in frames}
            read = dict(zip(once, self.ears(list(once.values())), strict=True))
            frames = [read[id(sound)].frames for sound in frames]
        pieces = [f[piece.begin : piece.end].float() for f, piece in zip(frames, heard, strict=True)]
        device = next(self.connector.parameters()).device
        lengths = torch.tensor([len(piece) for piece in pieces], device=device)
        return self.connector(nn.utils.rnn.pad_sequence(pieces, batch_first=True).to(device), lengths).rows()

    def frozen(self) -> dict[str, str]:
        """Fingerprints of what must not change."""
        own = {name: tensor for name, tensor in self.backbone.state_dict().items() if ".lora_" not in name}
        return {"backbone": fingerprint(own)}

    def save(self, folder: Path, provenance: dict[str, object]) -> None:
        """Writes ``folder/connector``, PEFT's adapter ``folder/listening`` and ``folder/encoder`` where they learnt."""
        if self.ears is not None:
            self.ears.encoder.save(folder / ENCODER)
            settings = replace(self.ears.settings, model=str(folder / ENCODER))
            self.connector.config = replace(self.connector.config, encoder=Ears(settings).fingerprint)
        self.connector.save(folder / CONNECTOR, provenance)
        if self.peft_model is not None:
            save_lora(self.peft_model, LISTENING, folder, self.belongs)

    def take(self, folder: Path) -> None:
        """Goes on from a saved adapter.

        Raises:
            VoicegraftError: it is damaged, of another backbone or of another shape.
        """
        assert self.peft_model is not None
        check_identity(folder, self.belongs)
        take_adapter(self.peft_model, LISTENING, folder)


def divergence(logits: Tensor, top_ids: Tensor, top_logprobs: Tensor) -> Tensor:
    """Kullback-Leibler divergence ``[M]`` of a model's next token from a distribution of which the likeliest tokens are known.

    What the others have together counts as one more token, so the number is at most the divergence of the whole
    distributions, and equal where ``k`` is the vocabulary.

    Args:
        logits: ``[M, V]``.
        top_ids: ``[M, k]``; -1 where there is none.
        top_logprobs: ``[M, k]``, natural.
    """
    known = top_ids >= 0
    theirs = top_logprobs.float().masked_fill(~known, -torch.inf)
    mine = logits.log_softmax(-1).gather(-1, top_ids.clamp(min=0).long()).masked_fill(~known, -torch.inf)
    p, q = theirs.exp(), mine.exp()
    among = (p * (theirs - mine).masked_fill(~known | (p == 0), 0.0)).sum(-1)
    p_rest, q_rest = ((1 - x.sum(-1)).clamp(min=_LEAST) for x in (p, q))
    return among + p_rest * (p_rest.log() - q_rest.log())
