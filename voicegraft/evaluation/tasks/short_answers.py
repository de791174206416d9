"""Questions that are answered in a few words, held back from all training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from voicegraft.core.messages import Message
from voicegraft.data import questions as qa
from voicegraft.data.chat import chat_prompt, filler_id
from voicegraft.data.corpora import words_key
from voicegraft.evaluation.tasks.base import Measured, Subject, constant_answer


def held_out_questions(corpora: Path, per_kind: int, seed: int) -> list[qa.Question]:
    """At most ``per_kind`` test questions of every kind; none of them, nor their facts, were in training."""
    trained = {q.text for q in qa.dialogue_mentions(corpora / "sgd-dialogues" / "train.jsonl", held_out=False)}
    mentions = qa.dialogue_mentions(corpora / "sgd-dialogues" / "dev.jsonl", held_out=True)
    sources: list[Iterable[qa.Question]] = [qa.make_up(kind, seed, 12 * per_kind, held_out=True) for kind in qa.MADE_UP]
    sources += [
        (q for q in mentions if q.text not in trained),  # people say some things twice
        qa.trivia(corpora / "opentriviaqa"),
        qa.yes_or_no(corpora / "llm-adapters-qa" / "boolq"),
    ]
    found: dict[str, list[qa.Question]] = {}
    for source in sources:
        for question in source:
            if question.held_out:
                found.setdefault(question.kind, []).append(question)
    return [q for kind in found.values() for q in qa.take(kind, held_out=True, count=per_kind, seed=seed)]


@dataclass(frozen=True)
class ShortAnswers:
    """Right is who writes the expected words; case and punctuation do not count. Each kind of question is a part."""

    questions: Sequence[qa.Question]
    batch: int = 32  # questions at a time
    max_tokens: int = 12  # of an answer

    def prompts(self, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        """Token ids, in the form that the backbone knows."""
        return [chat_prompt(tokenizer, [Message.user(question.text)]) for question in self.questions]

    @torch.inference_mode()
    def answers(self, subject: Subject) -> list[str]:
        """First line of the greedy answer to each question. Prompts of one length go together: none is padded."""
        prompts = self.prompts(subject.tokenizer)
        by_length: dict[int, list[int]] = {}
        for i, ids in enumerate(prompts):
            by_length.setdefault(len(ids), []).append(i)
        answers = [""] * len(prompts)
        generate = cast(Any, subject.model).generate  # its annotation fits no model class
        groups = [same[i : i + self.batch] for same in by_length.values() for i in range(0, len(same), self.batch)]
        for group in tqdm(groups, desc="questions", unit="batch"):
            rows = torch.tensor([prompts[i] for i in group], device=subject.model.device)
            with subject.gated():
                out = generate(
                    input_ids=rows,
                    attention_mask=torch.ones_like(rows),
                    max_new_tokens=self.max_tokens,
                    do_sample=False,
                    pad_token_id=filler_id(subject.tokenizer),
                )
            for i, said in zip(group, out[:, rows.shape[1] :], strict=True):
                text = str(subject.tokenizer.decode(said, skip_special_tokens=True))
                answers[i] = (text.strip().splitlines() or [""])[0]
        return answers

    def measure(self, subject: Subject) -> dict[str, Measured]:
        return self.score(self.answers(subject))

    def score(self, answers: Sequence[str]) -> dict[str, Measured]:
        """Kind -> the share of its answers that are right."""
        found = {}
        for kind in dict.fromkeys(q.kind for q in self.questions):
            pairs = [(words_key(q.answer), a) for q, a in zip(self.questions, answers, strict=True) if q.kind == kind]
            right = sum(expected == words_key(said) for expected, said in pairs) / len(pairs)
            chance = constant_answer([expected for expected, _ in pairs])
            found[f"own: {kind}"] = Measured("generated", right, chance, len(pairs), tuple(said for _, said in pairs))
        return found
