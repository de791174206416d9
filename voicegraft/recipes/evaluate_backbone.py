"""Held-out perplexity and question-answering accuracy of any Hugging Face causal language model.

    voicegraft evaluate backbone model=runs/pocket/backbone data=DATA work=runs/pocket

Uses the model's own tokenizer and chat template (without one: "Question: ... Answer:"). Perplexity per token
compares models of one tokenizer, perplexity per word any models. Prints a table and writes
``{work}/backbone-report.json``.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.core.messages import Message
from voicegraft.core.runtime import pick_device, single_thread
from voicegraft.data import questions as qa
from voicegraft.data.chat import begin_id, chat_prompt, filler_id
from voicegraft.data.corpora import book_pieces, chats, unpack, words_key
from voicegraft.fusion.backbone import load_backbone
from voicegraft.recipes.command import recipe_config

CORPORA = ("books-pd", "sgd-dialogues", "opentriviaqa", "llm-adapters-qa")  # that the texts and questions are from

Gated = Callable[
    [], AbstractContextManager[None]
]  # a fresh context for one batch: under which gates a fused model reads it


@dataclass(frozen=True)
class EvaluateBackboneConfig:
    model: str = "runs/pocket/backbone"  # Hugging Face folder, or a name on the Hub
    data: str = "data"  # folder with the raw corpora
    work: str = "runs/pocket"  # folder that receives the unpacked corpora and the report
    books_held_out: float = 0.01  # as in the training
    context: int = 512  # tokens per window of the perplexity
    num_dialogues: int = 300  # of the held-out ones
    questions_per_kind: int = 200
    seed: int = 7  # which questions
    batch: int = 32  # windows or questions at a time
    max_answer_tokens: int = 12
    device: str = "auto"


@dataclass(frozen=True)
class Perplexity:
    per_token: float
    per_word: float  # words are what spaces separate
    num_tokens: int
    num_words: int


@dataclass(frozen=True)
class Accuracy:
    right: float  # share of answers that are the expected words exactly
    constant: float  # share that one and the same answer to every question would get
    count: int


def main(argv: list[str] | None = None) -> None:
    report = evaluate_backbone(recipe_config(EvaluateBackboneConfig, __doc__, argv))
    for name, p in report["perplexity"].items():
        print(f"{name:12} perplexity {p['per_token']:8.2f} per token {p['per_word']:8.2f} per word")
    for name, a in report["questions"].items():
        print(f"{name:12} right {a['right']:.3f}   constant answer {a['constant']:.3f}   of {a['count']}")


@torch.inference_mode()
def evaluate_backbone(config: EvaluateBackboneConfig) -> dict[str, dict[str, dict[str, float]]]:
    device = pick_device(config.device)
    if device.type == "cpu":
        single_thread()
    work = Path(config.work)
    corpora = work / "corpora"
    unpack(Path(config.data), corpora, CORPORA)
    backbone, tokenizer = load_backbone(config.model)
    model = backbone.to(device)  # type: ignore[arg-type]
    _, pieces = book_pieces(corpora / "books-pd", held_out=config.books_held_out)
    spoken = islice(chats(corpora / "sgd-dialogues" / "dev.jsonl"), config.num_dialogues)
    texts = held_out_texts(tokenizer, pieces, spoken)
    asked = held_out_questions(corpora, config.questions_per_kind, config.seed)
    answers = answer_all(model, tokenizer, [q.text for q in asked], config.batch, config.max_answer_tokens)
    report = {
        "perplexity": {
            n: vars(perplexity(model, tokenizer, t, config.context, config.batch)) for n, t in texts.items()
        },
        "questions": {kind: vars(a) for kind, a in accuracies(asked, answers).items()},
    }
    rows = [{**vars(q), "said": said} for q, said in zip(asked, answers, strict=True)]
    (work / "backbone-report.json").write_text(json.dumps({"model": config.model, **report, "answers": rows}, indent=1))
    return report


def held_out_texts(
    tokenizer: PreTrainedTokenizerBase, pieces: Iterable[Sequence[str]], spoken: Iterable[Sequence[Message]]
) -> dict[str, list[str]]:
    """What perplexity is measured on, from pieces of books and chats, in the form that the backbone knows."""
    return {
        "books": [paragraph + "\n" for piece in pieces for paragraph in piece],
        "dialogues": [chat_text(tokenizer, chat) for chat in spoken],
    }


def chat_text(tokenizer: PreTrainedTokenizerBase, chat: Sequence[Message]) -> str:
    if tokenizer.chat_template is None:
        return "".join(f"{message.role.capitalize()}: {message.text}\n" for message in chat)
    messages = [{"role": message.role, "content": message.text} for message in chat]
    return str(tokenizer.apply_chat_template(messages, tokenize=False))


def perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    context: int,
    batch: int,
    gated: Gated = nullcontext,
) -> Perplexity:
    """Perplexity of the texts in a row, in windows that do not overlap, each after the beginning token.

    A tokenizer without a beginning token gets its end token there, as GPT-2 does. ``gated`` is entered anew for every batch.
    """
    texts = list(texts)
    ids = [i for part in tokenizer(texts, add_special_tokens=False)["input_ids"] for i in part]
    windows = [[begin_id(tokenizer), *ids[i : i + context - 1]] for i in range(0, len(ids), context - 1)]
    nats = 0.0
    # The last window is shorter than the others: it goes alone.
    parts = [windows[i : min(i + batch, len(windows) - 1)] for i in range(0, len(windows) - 1, batch)] + [windows[-1:]]
    for part in tqdm(parts, desc="perplexity", unit="batch"):
        rows = torch.tensor(part, device=model.device)
        with gated():
            logits = model(input_ids=rows[:, :-1], use_cache=False).logits.float()
        nats += float(F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum"))
    num_words = sum(len(text.split()) for text in texts)
    per_token, per_word = (math.exp(min(nats / count, 700.0)) for count in (len(ids), num_words))  # floats end at 709
    return Perplexity(per_token, per_word, len(ids), num_words)


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


def answer_all(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[str],
    batch: int,
    max_tokens: int,
    gated: Gated = nullcontext,
) -> list[str]:
    """First line of the greedy answer to each question. Prompts of one length go together: none is padded.

    ``gated`` is entered anew for every batch.
    """
    prompts = [chat_prompt(tokenizer, [Message.user(text)]) for text in asked]
    by_length: dict[int, list[int]] = {}
    for i, ids in enumerate(prompts):
        by_length.setdefault(len(ids), []).append(i)
    answers = [""] * len(asked)
    generate = cast(Any, model).generate  # its annotation fits no model class
    groups = [same[i : i + batch] for same in by_length.values() for i in range(0, len(same), batch)]
    for group in tqdm(groups, desc="questions", unit="batch"):
        rows = torch.tensor([prompts[i] for i in group], device=model.device)
        with gated():
            out = generate(
                input_ids=rows,
                attention_mask=torch.ones_like(rows),
                max_new_tokens=max_tokens,
                do_sample=False,
                pad_token_id=filler_id(tokenizer),
            )
        for i, said in zip(group, out[:, rows.shape[1] :], strict=True):
            answers[i] = (str(tokenizer.decode(said, skip_special_tokens=True)).strip().splitlines() or [""])[0]
    return answers


def accuracies(asked: Sequence[qa.Question], answers: Sequence[str]) -> dict[str, Accuracy]:
    """Per kind of question; case and punctuation do not count."""
    result = {}
    for kind in dict.fromkeys(q.kind for q in asked):
        pairs = [(words_key(q.answer), words_key(a)) for q, a in zip(asked, answers, strict=True) if q.kind == kind]
        right = sum(expected == said for expected, said in pairs) / len(pairs)
        constant = Counter(expected for expected, _ in pairs).most_common(1)[0][1] / len(pairs)
        result[kind] = Accuracy(right, constant, len(pairs))
    return result


if __name__ == "__main__":
    main()
