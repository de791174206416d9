"""What ``bench_fusion`` compares of training: the speech expert's step, and PEFT's own way to the same vocabulary."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel

from voicegraft.core.artifacts import load_artifact
from voicegraft.core.library_logging import quietly
from voicegraft.data.batches import collate
from voicegraft.data.sequences import IGNORE, SpeechSequence, WordSpelling, speech_sequence
from voicegraft.fusion.backbone import load_backbone
from voicegraft.fusion.experts import LoraSettings
from voicegraft.fusion.lora_training import SpeechExpertTraining
from voicegraft.fusion.speech_embedding import RowsConfig
from voicegraft.tokenizers.vocabulary import SpeechVocabulary

_LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class TrainingCase:
    backbone: Path
    expert: Path  # whose vocabulary is learned
    lora: LoraSettings = field(default_factory=LoraSettings)


def training_steps(case: TrainingCase, batch: int, length: int) -> dict[str, Callable[[], Any]]:
    """Name -> one optimiser step on a batch ``[batch, length]`` of made-up speech."""
    vocabulary = load_artifact(case.expert / "rows", "speech-rows", RowsConfig).config.vocabulary
    num_text = load_backbone(case.backbone)[0].config.vocab_size
    made = [_made_up(vocabulary, num_text, length, seed) for seed in range(batch)]
    fields = {name: field[:, :length] for name, field in collate(made, torch.device("cpu")).items()}
    return {
        "ours": _ours(case, vocabulary, fields),
        "PEFT, new rows alone": _pefts(case, vocabulary, fields, whole=False),
        "PEFT, whole tables": _pefts(case, vocabulary, fields, whole=True),
    }


def _ours(case: TrainingCase, vocabulary: SpeechVocabulary, fields: dict[str, Tensor]) -> Callable[[], Any]:
    torch.manual_seed(0)
    model = SpeechExpertTraining(*load_backbone(case.backbone), vocabulary, "", case.lora).train()
    return _step(model, lambda: model(fields)[0])


def _pefts(
    case: TrainingCase, vocabulary: SpeechVocabulary, fields: dict[str, Tensor], whole: bool
) -> Callable[[], Any]:
    """The usual way: the speech vocabulary is appended to the text's, the softmax goes over both.

    Args:
        whole: PEFT's ``modules_to_save`` trains all rows of the tables; else its ``trainable_token_indices`` the new ones.
    """
    torch.manual_seed(0)
    backbone, _ = load_backbone(case.backbone)
    num_text = backbone.config.vocab_size
    model: Any = grown(backbone, vocabulary.size, case.lora, whole).train()
    spoken = fields["token"] >= 0
    ids = torch.where(spoken, fields["token"] + num_text, fields["text"])
    labels = torch.full_like(ids, IGNORE)
    labels[:, 1:] = torch.where(fields["target"][:, :-1] == IGNORE, IGNORE, ids[:, 1:])
    return _step(model, lambda: model(input_ids=ids, labels=labels, use_cache=False).loss)


def grown(backbone: PreTrainedModel, num_new: int, lora: LoraSettings, whole: bool) -> PeftModel:
    """A LoRA of PEFT on a backbone whose tables were grown by ``num_new`` rows at their end, which are trained too.

    Args:
        whole: by ``modules_to_save``, all rows of the tables; else by ``trainable_token_indices``, the new ones.
    """
    num_text = backbone.config.vocab_size
    with quietly():
        backbone.resize_token_embeddings(num_text + num_new, mean_resizing=False)
    new = list(range(num_text, num_text + num_new))
    tied = backbone.config.tie_word_embeddings
    tables = ["embed_tokens"] if tied else ["embed_tokens", "lm_head"]
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        modules_to_save=tables if whole else None,
        trainable_token_indices=None if whole else dict.fromkeys(tables, new),
        ensure_weight_tying=whole and tied,
    )
    return get_peft_model(backbone, config)


def _step(model: torch.nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=_LEARNING_RATE)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _made_up(vocabulary: SpeechVocabulary, num_text: int, length: int, seed: int) -> SpeechSequence:
    """At least ``length`` positions laid out like an utterance: a sentence, its spelling, its speech."""
    draw = random.Random(seed)
    phones = vocabulary.units[:30]
    ids = [draw.randrange(3, num_text) for _ in range(length // 16)]
    words = [WordSpelling([i], "abcd", [(draw.choice(phones),) for _ in "abcd"]) for i in ids[: length // 32]]
    units = [draw.choice(vocabulary.units) for _ in range(length // 4)]
    counts = np.full(len(units), 4)
    codes = np.array([draw.randrange(vocabulary.num_codes) for _ in range(int(counts.sum()))])
    return speech_sequence(vocabulary, ids, words, vocabulary.voices[0], units, codes, counts)
