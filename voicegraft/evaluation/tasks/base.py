"""A text task: its items, the prompt of each, and how a model's answers are scored. Every model is measured alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.fusion.speech_lm import SpeechLM

Kind = Literal["generated", "chosen", "perplexity"]  # how a model answers
Gated = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Subject:
    """The model that is measured."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    gated: Gated = nullcontext  # entered anew for every call: the gates under which a fused model reads that batch

    @staticmethod
    def writing(lm: SpeechLM) -> Subject:
        """The fused model in text mode, its router choosing."""
        return Subject(lm.backbone, lm.tokenizer, lambda: lm.mole.gated(lm.writing()))


@dataclass(frozen=True)
class Measured:
    """What one model did in one task."""

    kind: Kind
    score: float  # share of right answers; perplexity per token
    chance: float  # what the best constant answer gets, or guessing; of perplexity: the size of the vocabulary
    count: int  # questions, or tokens of perplexity
    answers: tuple[str, ...] = ()  # what it wrote, or which option it chose
    per_word: float | None = None  # perplexity alone: comparable between tokenizers


class Task(Protocol):
    def measure(self, subject: Subject) -> dict[str, Measured]:
        """Puts all items to the model; a task with parts (kinds of questions) gives one result for each."""


def constant_answer(expected: Sequence[Hashable]) -> float:
    """Share that one and the same answer to every question would get right."""
    return Counter(expected).most_common(1)[0][1] / len(expected)
