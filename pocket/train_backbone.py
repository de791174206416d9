"""Raw text -> a small language model in Hugging Face's folder format, such as the pocket backbone.

    python -m pocket.train_backbone pocket/backbone data=DATA work=runs/pocket

Writes ``backbone-tokenizer/`` (first), ``backbone-rows.safetensors`` (the tokens), ``train-backbone/``
(checkpoints, log) and in the end ``backbone/``, which `AutoModelForCausalLM` and `AutoTokenizer` load. Steps
that are done are skipped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from pocket.bpe import ChatEncoder, packed_rows, save_tokenizer, stream_rows, train_tokenizer
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message
from voicegraft.core.runtime import pick_device, seed_all, single_thread
from voicegraft.data.corpora import book_pieces, chats, unpack, words_key
from voicegraft.data.questions import QuestionsConfig, training_questions
from voicegraft.recipes.command import recipe_config
from voicegraft.train.config import LoopConfig
from voicegraft.train.engine import main_first, save_once
from voicegraft.train.loop import Losses, Metrics, run

PADDING, QUESTION, ANSWER, TEXT = range(4)  # marks of tokens, each with a loss weight of its own


@dataclass(frozen=True)
class ModelConfig:
    family: str = "llama"  # the architecture, by the name that transformers gives it: llama, qwen2, qwen3, mistral, ...
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 640
    max_positions: int = 2048  # tokens


@dataclass(frozen=True)
class BackboneConfig:
    data: str = "data"  # folder with the raw corpora
    work: str = "runs/pocket"  # folder that receives everything
    never_say: tuple[str, ...] = ("prompts/harvard_001-360.txt",)  # evaluation prompts, kept out of all training
    books_held_out: float = 0.01  # share of the books' pieces, for the perplexity
    vocab_size: int = 2048  # special tokens included
    context: int = 512  # tokens per training row
    text_rows: int = 6  # rows of books and dialogues per step
    question_rows: int = 2  # rows of questions per step
    question_weight: float = 0.3  # loss weight of a question's tokens (text: 1)
    answer_weight: float = 6.0  # loss weight of an answer's tokens, its end token included
    short_steps: int = 0  # first steps, whose rows are cut into halves: attention costs less, so steps are faster
    validation_rows: int = 24  # held-out rows of books, and of dialogues, while training
    device: str = "auto"
    model: ModelConfig = field(default_factory=ModelConfig)
    questions: QuestionsConfig = field(default_factory=QuestionsConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1800, lr=2e-3, betas=(0.9, 0.95)))


def main(argv: list[str] | None = None) -> None:
    train_backbone(recipe_config(BackboneConfig, __doc__, argv))


def train_backbone(config: BackboneConfig) -> None:
    device = pick_device(config.device)
    if device.type == "cpu":
        single_thread()
    work = Path(config.work)
    with main_first():
        unpack(Path(config.data), work / "corpora", ("books-pd", "sgd-dialogues", "opentriviaqa", "llm-adapters-qa"))
        tokenizer = backbone_tokenizer(config)
        rows = training_rows(config, tokenizer)
    seed_all(config.loop.seed)
    model = new_model(config, tokenizer, device)
    models = {"backbone": model}
    batches = Batches(config, rows, device)
    losses = partial(losses_of, config)
    if run(
        config.loop,
        work / "train-backbone",
        models,
        batches,
        losses,
        lambda _: validate(model, rows, device),
    ):
        save_once(model, save_backbone, model, tokenizer, work / "backbone")


def backbone_tokenizer(config: BackboneConfig) -> PreTrainedTokenizerFast:
    folder = Path(config.work) / "backbone-tokenizer"
    if not (folder / "tokenizer.json").is_file():
        books, _, spoken = text_corpora(config)
        asked = training_questions(config.questions, Path(config.work) / "corpora")
        texts = [p for piece in books for p in piece] + [message.text for chat in spoken for message in chat]
        texts += [text for q in asked for text in (q.text, q.answer)]
        save_tokenizer(train_tokenizer(texts, config.vocab_size, config.model.max_positions), folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def text_corpora(
    config: BackboneConfig,
) -> tuple[list[list[str]], list[list[str]], list[list[Message]]]:
    """Pieces of books to train on, pieces held out, and the training part of the dialogues."""
    corpora, data = Path(config.work) / "corpora", Path(config.data)
    lines = [line for name in config.never_say for line in (data / name).read_text().splitlines()]
    forbidden = frozenset(words_key(line) for line in lines if line.strip())
    books, held_out = book_pieces(corpora / "books-pd", forbidden, held_out=config.books_held_out)
    return books, held_out, list(chats(corpora / "sgd-dialogues" / "train.jsonl", forbidden))


def training_rows(config: BackboneConfig, tokenizer: PreTrainedTokenizerFast) -> dict[str, Tensor]:
    """Token rows `[R, context]`: text, questions with a mark per token, and held-out books and dialogues."""
    path = Path(config.work) / "backbone-rows.safetensors"
    if not path.is_file():
        encode = ChatEncoder(tokenizer)
        corpora = Path(config.work) / "corpora"
        books, held_out, spoken = text_corpora(config)
        asked = training_questions(config.questions, corpora)

        def marked() -> Iterator[tuple[list[int], list[int]]]:
            for ids, answer in encode.chats([[Message.user(q.text), Message.assistant(q.answer)] for q in asked]):
                yield ids, [ANSWER if a else QUESTION for a in answer]

        def rows(pieces: list[list[str]], talk: list[list[Message]]) -> Tensor:
            stream = np.array(
                [*book_tokens(encode, pieces), *(i for ids, _ in encode.chats(talk) for i in ids)], np.uint16
            )
            return torch.from_numpy(stream_rows(stream, encode.begin, config.context).astype(np.int16))

        questions, marks = packed_rows(marked(), tokenizer.pad_token_id, config.context)
        limit = config.validation_rows
        unseen = list(chats(corpora / "sgd-dialogues" / "dev.jsonl"))[: 10 * limit]
        arrays = {
            "text": rows(books, spoken),
            "questions": torch.from_numpy(questions.astype(np.int16)),
            "marks": torch.from_numpy(marks),
            "validation_books": rows(held_out, [])[:limit],
            "validation_dialogues": rows([], unseen)[:limit],
        }
        for name, made in arrays.items():
            if not len(made):
                raise VoicegraftError(
                    f"{config.data}: expected at least {config.context} tokens of {name}, got less; "
                    "add text, lower context or raise books_held_out"
                )
        save_file({k: v.contiguous() for k, v in arrays.items()}, path.with_suffix(".partial"))
        os.replace(path.with_suffix(".partial"), path)
    return load_file(path)


def book_tokens(encode: ChatEncoder, pieces: list[list[str]]) -> Iterator[int]:
    """Paragraphs one after the other, each on a line of its own; a piece closes with the end token."""
    newline = encode.texts(["\n"])[0][-1]
    tokens = iter(encode.texts([p for piece in pieces for p in piece]))
    for piece in pieces:
        for _ in piece:
            yield from next(tokens)
            yield newline
        yield encode.end


def new_model(config: BackboneConfig, tokenizer: PreTrainedTokenizerFast, device: torch.device) -> PreTrainedModel:
    shape = config.model
    if shape.family not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise VoicegraftError(f"transformers knows no causal LM {shape.family!r}; try llama, qwen2, qwen3 or mistral")
    architecture = AutoConfig.for_model(
        shape.family,
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with device:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(architecture)
    model.set_attn_implementation("eager")  # measured on one CPU core: 1.5 times as fast as the fused kernel
    return model


class Batches:
    """Step number -> rows: every row once in a random order, then in another one."""

    def __init__(self, config: BackboneConfig, rows: Mapping[str, Tensor], device: torch.device) -> None:
        self._config, self._rows, self._device = config, rows, device
        self._orders: dict[tuple[str, int], np.ndarray] = {}

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Token ids and their marks, both `[B, context]`, or `[2 B, context / 2]` in the short steps."""
        text = self._rows["text"][self._pick("text", step, self._config.text_rows)].long()
        chosen = self._pick("questions", step, self._config.question_rows)
        ids = torch.cat([text, self._rows["questions"][chosen].long()])
        marks = torch.cat([torch.full_like(text, TEXT), self._rows["marks"][chosen].long()])
        if step < self._config.short_steps:
            ids, marks = (x.view(-1, self._config.context // 2) for x in (ids, marks))
        return ids.to(self._device), marks.to(self._device)

    def _pick(self, name: str, step: int, count: int) -> list[int]:
        total = len(self._rows[name])
        return [int(self._order(name, n // total)[n % total]) for n in range(step * count, (step + 1) * count)]

    def _order(self, name: str, epoch: int) -> np.ndarray:
        if (name, epoch) not in self._orders:
            draw = np.random.default_rng([self._config.loop.seed, epoch])
            self._orders[name, epoch] = draw.permutation(len(self._rows[name]))
        return self._orders[name, epoch]


def losses_of(
    config: BackboneConfig, models: Mapping[str, nn.Module], batch: tuple[Tensor, Tensor], step: int
) -> tuple[Losses, Metrics]:
    ids, marks = batch
    logits = models["backbone"](input_ids=ids[:, :-1], use_cache=False).logits
    nats = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    marks = marks[:, 1:].flatten()
    weights = torch.tensor([0.0, config.question_weight, config.answer_weight, 1.0], device=ids.device)[marks]
    metrics = {"text": nats[marks == TEXT].mean(), "answers": nats[marks == ANSWER].mean()}
    return {"backbone": (nats * weights).sum() / weights.sum()}, metrics


@torch.no_grad()
def validate(model: nn.Module, rows: Mapping[str, Tensor], device: torch.device) -> dict[str, float]:
    """Nats per token on held-out text."""
    scores = {}
    for name in ("books", "dialogues"):
        ids = rows[f"validation_{name}"].long().to(device)
        nats = [
            F.cross_entropy(model(input_ids=part[:, :-1]).logits.float().flatten(0, 1), part[:, 1:].flatten())
            for part in ids.split(8)
        ]
        scores[name] = float(torch.stack(nats).mean())
    return scores


def save_backbone(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """An ordinary Hugging Face folder with half-precision weights, put in place in one move."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    half = type(model)(model.config).half()
    half.load_state_dict(model.state_dict())
    half.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=64,
    )
    half.save_pretrained(partial)
    (partial / "model.safetensors").chmod(0o644)  # comes readable to its owner alone, is to be shared
    save_tokenizer(tokenizer, partial)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


if __name__ == "__main__":
    main()
