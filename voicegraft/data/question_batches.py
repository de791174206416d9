"""Answered training questions, in batches of like length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from voicegraft.data.batches import LengthBuckets
from voicegraft.data.chat import AnsweredQuestion, answered_questions, collate_answers, filler_id
from voicegraft.data.questions import QuestionsConfig, training_questions
from voicegraft.data.splits import Splits


class QuestionBatches:
    """Batch number -> questions with their answers; those that ``data.splits`` holds back are validated on."""

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

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Mean loss and token accuracy of a model in evaluation mode on what was held back."""
        parts = [model(self.collate(self.held[i : i + 32]))[1] for i in range(0, len(self.held), 32)]
        return {name: float(np.mean([float(p[name]) for p in parts])) for name in (parts[0] if parts else ())}
