"""Trains the text expert: a LoRA that answers questions, on the frozen backbone, by PEFT.

    voicegraft recipe train_text pocket/text work=runs/pocket

Writes PEFT's adapter folder ``work/text-expert/text``, usable alone or in the mixture. The identity needs no training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from voicegraft.core.runtime import pick_device
from voicegraft.data.question_batches import QuestionBatches
from voicegraft.data.questions import QuestionsConfig
from voicegraft.fusion.backbone import BackboneSettings, load_backbone
from voicegraft.fusion.experts import LoraSettings
from voicegraft.fusion.lora_training import TextExpertTraining
from voicegraft.recipes.command import recipe_main
from voicegraft.train.config import LoopConfig
from voicegraft.train.engine import save_once
from voicegraft.train.loop import run


@dataclass(frozen=True)
class TrainTextConfig:
    work: str = "runs/mine"  # the work folder
    backbone: str = ""  # folder of a causal LM, or its name on the Hub; empty: work/backbone
    loading: BackboneSettings = field(default_factory=BackboneSettings)  # number format, gradient checkpointing, ...
    lora: LoraSettings = field(default_factory=lambda: LoraSettings(rank=16, alpha=16))
    loop: LoopConfig = field(default_factory=LoopConfig)
    questions: QuestionsConfig = field(default_factory=QuestionsConfig)
    batch_positions: int = 4096
    held_back: int = 400  # questions that are validated on, at most, of those held back
    device: str = "auto"


def train_text(config: TrainTextConfig) -> None:
    work, device = Path(config.work), pick_device(config.device)
    backbone, tokenizer = load_backbone(config.backbone or work / "backbone", config.loading)
    torch.manual_seed(0)
    model = TextExpertTraining(backbone, tokenizer, config.lora).to(device)
    asked = QuestionBatches(tokenizer, config.questions, work, config.batch_positions, config.held_back, device)

    folder, models = work / "text-training", {"text": model}
    if run(config.loop, folder, models, lambda step: asked(step, 0), validate=lambda _: asked.validate(model)):
        save_once(model, model.save, work / "text-expert")


main = recipe_main(train_text, __doc__)


if __name__ == "__main__":
    main()
