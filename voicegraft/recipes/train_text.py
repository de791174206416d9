"""Trains the text expert: a LoRA that answers questions, on the frozen backbone, by PEFT.

    voicegraft recipe train_text pocket/text work=runs/pocket

Writes PEFT's adapter folder ``work/text-expert/text``, usable alone or in the mixture. The identity needs no training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from voicegraft.core.runtime import pick_device, single_thread
from voicegraft.data.batches import LengthBuckets
from voicegraft.data.chat import AnsweredQuestion, answered_questions, collate_answers, filler_id
from voicegraft.data.splits import Splits
from voicegraft.fusion.backbone import BackboneSettings, load_backbone
from voicegraft.fusion.experts import LoraSettings
from voicegraft.fusion.lora_training import TextExpertTraining
from voicegraft.recipes.command import recipe_config
from voicegraft.recipes.train_backbone import QuestionsConfig, training_questions
from voicegraft.train.config import LoopConfig
from voicegraft.train.engine import save_once
from voicegraft.train.loop import run


@dataclass(frozen=True)
class TrainTextConfig:
    work: str = "runs/pocket"
    backbone: str = ""  # folder of a causal LM, or its name on the Hub; empty: work/backbone
    loading: BackboneSettings = field(default_factory=BackboneSettings)  # number format, gradient checkpointing, ...
    lora: LoraSettings = field(default_factory=lambda: LoraSettings(rank=16, alpha=16))
    loop: LoopConfig = field(default_factory=LoopConfig)
    questions: QuestionsConfig = field(default_factory=QuestionsConfig)
    batch_positions: int = 4096
    held_back: int = 400  # questions that are validated on, at most, of those held back
    device: str = "auto"


def main(argv: list[str] | None = None) -> None:
    single_thread()
    train_text(recipe_config(TrainTextConfig, __doc__, argv))


def train_text(config: TrainTextConfig) -> None:
    work, device = Path(config.work), pick_device(config.device)
    backbone, tokenizer = load_backbone(config.backbone or work / "backbone", config.loading)
    torch.manual_seed(0)
    model = TextExpertTraining(backbone, tokenizer, config.lora).to(device)
    asked = TextBatches(tokenizer, config.questions, work, config.batch_positions, config.held_back, device)

    def losses(
        players: Mapping[str, nn.Module], batch: dict[str, Tensor], step: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        loss, parts = players["text"](batch)
        return {"text": loss}, parts

    def validate(_: int) -> dict[str, float]:
        return asked.validate(model)

    if run(config.loop, work / "text-training", {"text": model}, lambda step: asked(step, 0), losses, validate):
        save_once(model, model.save, work / "text-expert")


class TextBatches:
    """Answered training questions, in batches of like length."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        questions: QuestionsConfig,
        work: Path,
        budget: int,
        held_back: int,
        device: torch.device,
    ):
        """
        Args:
            budget: positions per batch.
            held_back: questions that are validated on, at most, of those that ``data.splits`` holds back.
        """
        pairs = [(q.text, q.answer) for q in training_questions(questions, work / "corpora")]
        rule = Splits.over(question for question, _ in pairs)
        sides: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
        for pair in pairs:
            sides[rule.holds_back(pair[0])].append(pair)
        self.items = answered_questions(tokenizer, sides[False])
        self.held = answered_questions(tokenizer, sides[True][:held_back])
        lengths = [len(item) for item in self.items]
        self.buckets = LengthBuckets(lengths, [1.0] * len(lengths), budget)
        self._pad, self._device = filler_id(tokenizer), device

    def __call__(self, step: int, seed: int) -> dict[str, Tensor]:
        return self.collate([self.items[i] for i in self.buckets.draw(step, seed)])

    def collate(self, items: Sequence[AnsweredQuestion]) -> dict[str, Tensor]:
        return collate_answers(items, self._pad, self._device)

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Mean loss and token accuracy on what was held back."""
        model.eval()
        parts = [model(self.collate(self.held[i : i + 32]))[1] for i in range(0, len(self.held), 32)]
        model.train()
        return {name: float(np.mean([float(p[name]) for p in parts])) for name in (parts[0] if parts else ())}


if __name__ == "__main__":
    main()
