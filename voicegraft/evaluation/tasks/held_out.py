"""The text tasks by name, from the unpacked corpora; what they ask was held back from all training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.corpora import book_pieces, chats, readable_sentences, unpack
from voicegraft.data.questions import Question
from voicegraft.evaluation.tasks.base import Measured, Subject, Task
from voicegraft.evaluation.tasks.harness import PUBLIC, PublicTask, need_harness
from voicegraft.evaluation.tasks.perplexity import HeldOutTexts
from voicegraft.evaluation.tasks.short_answers import ShortAnswers, held_out_questions

OWN, PERPLEXITY = "own", "perplexity"
ALL_TASKS = (OWN, PERPLEXITY, *PUBLIC)
_CORPORA = ("books-pd", "sgd-dialogues", "opentriviaqa", "llm-adapters-qa")  # of the own texts and questions
_WINDOW = 128  # tokens of a piece of a book as a prompt


@dataclass(frozen=True, kw_only=True)
class TextTasksConfig:
    """What is asked, and how; every recipe that does text tasks has these keys."""

    books_held_out: float = 0.01  # share of the books' pieces, as in the training
    num_dialogues: int = 300  # of the held-out ones
    questions_per_kind: int = 200
    limit: int | None = None  # questions of a task (of a kind of "own"), dialogues, pieces of books; empty: all of them
    num_shots: int = 0  # examples before each question of a public task
    context: int = 512  # tokens per window of the perplexity
    batch: int = 32  # windows or questions at a time
    max_answer_tokens: int = 12
    seed: int = 7  # which questions

    def check(self, names: Sequence[str], among: Sequence[str] = ALL_TASKS) -> None:
        """Raises VoicegraftError for what a user can get wrong, and where lm-evaluation-harness is needed and missing."""
        unknown = [name for name in names if name not in among]
        if unknown:
            raise VoicegraftError(f"no task {unknown[0]!r}; choose among {', '.join(among)}")
        for key, value, least in (("limit", self.limit, 1), ("num_shots", self.num_shots, 0)):
            if value is not None and value < least:
                raise VoicegraftError(f"expected {key} to be {least} or more, got {value}")
        if any(name in PUBLIC for name in names):
            need_harness()


@dataclass(frozen=True)
class HeldOut:
    """Held-out questions and texts, and the tasks that are made of them."""

    own: ShortAnswers
    texts: HeldOutTexts
    asked: ShortAnswers  # the first questions of each kind: the task "own"
    tasks: dict[str, Task]

    @staticmethod
    def read(config: TextTasksConfig, corpora: Path, names: Sequence[str] = (), data: Path | None = None) -> HeldOut:
        """Reads the own tasks, and the public ones among ``names``.

        Args:
            data: folder with the raw corpora, which are unpacked into ``corpora``; None: they are unpacked.
        """
        public = [name for name in names if name in PUBLIC]
        if data is not None:
            unpack(data, corpora, dict.fromkeys([*_CORPORA, *(PUBLIC[name][0].partition("/")[0] for name in public)]))
        questions = held_out_questions(corpora, config.questions_per_kind, config.seed)
        _, pieces = book_pieces(corpora / "books-pd", held_out=config.books_held_out)
        dialogues = list(islice(chats(corpora / "sgd-dialogues" / "dev.jsonl"), config.num_dialogues))
        own = ShortAnswers(questions, config.batch, config.max_answer_tokens)
        texts = HeldOutTexts(pieces, dialogues, config.context, config.batch)
        kinds: dict[str, list[Question]] = {}
        for question in questions:
            kinds.setdefault(question.kind, []).append(question)
        asked = replace(own, questions=[q for same in kinds.values() for q in same[: config.limit]])
        tasks: dict[str, Task] = {
            OWN: asked,
            PERPLEXITY: replace(texts, pieces=pieces[: config.limit], dialogues=dialogues[: config.limit]),
        }
        tasks |= {name: PublicTask.read(name, corpora, config.limit, config.num_shots) for name in public}
        return HeldOut(own, texts, asked, tasks)

    def measure(self, subject: Subject, names: Sequence[str]) -> dict[str, Measured]:
        """Puts the tasks to a model -> part of a task -> what it did."""
        return {part: found for name in names for part, found in self.tasks[name].measure(subject).items()}

    def prompts(self, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        """Token ids of texts to be continued: questions of all kinds, beginnings of dialogues and of pieces of books."""
        return self.own.prompts(tokenizer) + self.texts.prompts(tokenizer, _WINDOW)

    def sentences(self, voices: Sequence[str], count: int) -> list[tuple[str, str]]:
        """At most ``count`` pairs (sentence, voice): sentences of the books, each in every voice."""
        sentences = readable_sentences(paragraph for piece in self.texts.pieces for paragraph in piece)
        return list(islice(((sentence, voice) for sentence in sentences for voice in voices), count))
