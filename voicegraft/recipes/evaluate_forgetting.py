"""What the text LLM can still do with a voice grafted on: before and after, task by task, and one number.

    voicegraft evaluate forgetting [--pack DIR] --data DATA --work runs/pocket
    voicegraft evaluate forgetting --backbone DIR --expert DIR [--router DIR] [--text-expert DIR] --tasks own,arc_easy,mmlu ...

Before is the untouched backbone, loaded for itself; after is the fused model in text mode, its router choosing. Writes
report.json, report.md and plots. Exit status 1 when the retention is below the threshold, 2 for a mistake in what was given.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message
from voicegraft.core.runtime import pick_device, single_thread
from voicegraft.data import questions as qa
from voicegraft.data.chat import chat_prompt, sentence_ids
from voicegraft.data.corpora import book_pieces, chats, readable_sentences, unpack
from voicegraft.evaluation.reports.document import need_matplotlib
from voicegraft.evaluation.reports.plots import draw
from voicegraft.evaluation.reports.summary import environment
from voicegraft.evaluation.tasks.forgetting import (
    ForgettingReport,
    Measured,
    compare,
    logit_difference,
    retention,
    same_answers,
    write_report,
)
from voicegraft.evaluation.tasks.harness import TASKS, LocalTask, local_tasks, need_harness, run_task
from voicegraft.evaluation.tasks.routing import confusion
from voicegraft.fusion.backbone import backbone_fingerprint, load_backbone
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.inference.pack import DEFAULT_PACK, open_pack, read_header
from voicegraft.recipes.evaluate_backbone import (
    CORPORA,
    Gated,
    accuracies,
    answer_all,
    held_out_questions,
    held_out_texts,
    perplexity,
)

OWN, PERPLEXITY = "own", "perplexity"
ALL_TASKS = (OWN, PERPLEXITY, *TASKS)
_PACKAGES = ("torch", "transformers", "peft", "lm_eval", "datasets")


@dataclass(frozen=True)
class EvaluateForgettingConfig:
    out: Path  # folder for the report
    data: Path = Path("data")  # folder with the raw corpora
    work: Path = Path("runs/pocket")  # folder that receives the unpacked corpora
    pack: Path | None = None  # None, and no expert either: the pocket pack
    backbone: Path | None = None  # folder of the text LLM, for an expert, or for a pack that does not hold it
    expert: Path | None = None  # folder of the speech expert, in place of a pack
    router: Path | None = None  # beside an expert; None lets the task choose
    text_expert: Path | None = None  # PEFT's adapter folder that writes; None is the identity
    tasks: tuple[str, ...] = (OWN, PERPLEXITY)
    limit: int | None = (
        None  # questions of a task (of a kind of "own"), dialogues and pieces of books of the perplexity
    )
    num_shots: int = 0  # examples before each question of a task of the harness
    threshold: float = 0.99  # least retention
    device: str = "auto"
    books_held_out: float = 0.01  # as in the training
    num_dialogues: int = 300
    questions_per_kind: int = 200
    num_spoken: int = 600  # prompts of speech for the router: sentences times voices
    context: int = 512  # tokens per window of the perplexity
    window: int = 128  # tokens of a piece of a book as a prompt
    seed: int = 7  # which questions
    batch: int = 32  # windows or questions at a time
    max_answer_tokens: int = 12


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="voicegraft evaluate forgetting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pack", type=Path, metavar="DIR", help="voice pack (default: the pocket pack)")
    parser.add_argument("--backbone", type=Path, metavar="DIR", help="the text LLM, for a pack without it or an expert")
    parser.add_argument("--expert", type=Path, metavar="DIR", help="speech expert, in place of a pack")
    parser.add_argument("--router", type=Path, metavar="DIR", help="with --expert; without it the task decides")
    parser.add_argument("--text-expert", type=Path, metavar="DIR", help="adapter that writes (default: the identity)")
    parser.add_argument("--data", type=Path, metavar="DIR", default=EvaluateForgettingConfig.data)
    parser.add_argument("--work", type=Path, metavar="DIR", default=EvaluateForgettingConfig.work)
    parser.add_argument("--tasks", default=f"{OWN},{PERPLEXITY}", metavar="A,B", help=f"of: {','.join(ALL_TASKS)}")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N questions of each task or kind of question")
    parser.add_argument("--shots", type=int, default=0, metavar="N", help="examples before each question (default: 0)")
    parser.add_argument("--threshold", type=float, default=EvaluateForgettingConfig.threshold, help="(default: 0.99)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the report (default: WORK/forgetting)")
    given = parser.parse_args(argv)
    config = EvaluateForgettingConfig(
        out=given.out or given.work / "forgetting",
        data=given.data,
        work=given.work,
        pack=given.pack,
        backbone=given.backbone,
        expert=given.expert,
        router=given.router,
        text_expert=given.text_expert,
        tasks=tuple(given.tasks.split(",")),
        limit=given.limit,
        num_shots=given.shots,
        threshold=given.threshold,
        device=given.device,
    )
    report = evaluate_forgetting(config)
    print((config.out / "report.md").read_text(encoding="utf-8"))
    return 0 if report.passed else 1


@torch.inference_mode()
def evaluate_forgetting(config: EvaluateForgettingConfig, fused: SpeechLM | None = None) -> ForgettingReport:
    """Does the tasks with the untouched backbone and with the fused model, writes the report and returns it.

    Args:
        fused: in place of the one that ``config`` names, on the same backbone.

    Raises:
        VoicegraftError: inputs that are missing or do not fit together, and missing packages.
    """
    _check(config)
    device = pick_device(config.device)
    if device.type == "cpu":
        single_thread()
    names, folder = [name for name in config.tasks if name in TASKS], _backbone_folder(config)
    material = Material.read(config, names)
    lm = (fused or _load_fused(config, folder)).to(device)
    before, tokenizer = load_backbone(folder)
    before.to(device)  # type: ignore[arg-type]

    def writing() -> AbstractContextManager[None]:
        return lm.mole.gated(lm.writing())

    asked = Asked(config, tokenizer, material)
    scores = [asked.of(before), asked.of(lm.backbone, writing)]
    texts, sentences = asked.prompts(), material.spoken(lm.vocabulary.voices, config.num_spoken)
    rows = compare(*scores)
    report = ForgettingReport(
        rows=tuple(rows),
        retention=retention(rows),
        threshold=config.threshold,
        logit_difference=logit_difference(before, lm.backbone, texts, writing),
        num_texts=len(texts),
        same_answers=same_answers(*scores),
        router=confusion(lm, texts, sentences),
        about=_about(config, lm, before),
    )
    write_report(config.out, report, draw(config.out, report))
    return report


@dataclass(frozen=True)
class Material:
    """Held-out texts and questions; nothing of it was trained on, if the backbone's training kept to the same split."""

    questions: list[qa.Question]
    pieces: list[list[str]]  # of books, each a list of paragraphs
    dialogues: list[list[Message]]
    tasks: dict[str, list[LocalTask]]  # of the harness

    @staticmethod
    def read(config: EvaluateForgettingConfig, names: Sequence[str]) -> Material:
        corpora = config.work / "corpora"
        folders = [TASKS[name][0].partition("/")[0] for name in names]
        unpack(config.data, corpora, dict.fromkeys([*CORPORA, *folders]))
        _, pieces = book_pieces(corpora / "books-pd", held_out=config.books_held_out)
        return Material(
            held_out_questions(corpora, config.questions_per_kind, config.seed),
            pieces,
            list(islice(chats(corpora / "sgd-dialogues" / "dev.jsonl"), config.num_dialogues)),
            {name: local_tasks(name, corpora, config.limit) for name in names},
        )

    def spoken(self, voices: Sequence[str], count: int) -> list[tuple[str, str]]:
        """At most ``count`` pairs (sentence, voice): sentences of the books, each in every voice."""
        sentences = readable_sentences(paragraph for piece in self.pieces for paragraph in piece)
        return list(islice(((sentence, voice) for sentence in sentences for voice in voices), count))


class Asked:
    """The tasks, to be put to one model after the other."""

    def __init__(self, config: EvaluateForgettingConfig, tokenizer: PreTrainedTokenizerBase, material: Material):
        self.config, self.tokenizer, self.material = config, tokenizer, material

    def of(self, model: PreTrainedModel, gated: Gated = nullcontext) -> dict[str, Measured]:
        """Task -> what the model did; the kinds of own questions and of texts are tasks of their own."""
        found: dict[str, Measured] = {}
        for name in self.config.tasks:
            if name == OWN:
                found |= self._own(model, gated)
            elif name == PERPLEXITY:
                found |= self._perplexity(model, gated)
            else:
                found[name] = run_task(model, self.tokenizer, self.material.tasks[name], self.config.num_shots, gated)
        return found

    def _own(self, model: PreTrainedModel, gated: Gated) -> dict[str, Measured]:
        config, asked = self.config, []
        for kind in dict.fromkeys(q.kind for q in self.material.questions):
            asked += [q for q in self.material.questions if q.kind == kind][: config.limit]
        said = answer_all(model, self.tokenizer, [q.text for q in asked], config.batch, config.max_answer_tokens, gated)
        found = {}
        for kind, accuracy in accuracies(asked, said).items():
            answers = tuple(a for q, a in zip(asked, said, strict=True) if q.kind == kind)
            found[f"{OWN}: {kind}"] = Measured("generated", accuracy.right, accuracy.constant, accuracy.count, answers)
        return found

    def _perplexity(self, model: PreTrainedModel, gated: Gated) -> dict[str, Measured]:
        config, material = self.config, self.material
        texts = held_out_texts(self.tokenizer, material.pieces[: config.limit], material.dialogues[: config.limit])
        guessing = float(len(model.get_input_embeddings().weight))  # type: ignore[arg-type]
        found = {}
        for name, parts in texts.items():
            p = perplexity(model, self.tokenizer, parts, config.context, config.batch, gated)
            found[f"{PERPLEXITY}: {name}"] = Measured("perplexity", p.per_token, guessing, p.num_tokens)
        return found

    def prompts(self) -> list[list[int]]:
        """Token ids of texts to be continued: questions of all kinds, beginnings of dialogues, windows of books."""
        tokenizer, material = self.tokenizer, self.material
        chats = [[Message.user(question.text)] for question in material.questions]
        # One turn, three or five: the last word is the user's.
        chats += [dialogue[: 1 + 2 * (i % 3)] for i, dialogue in enumerate(material.dialogues)]
        books = [sentence_ids(tokenizer, "\n".join(piece))[: self.config.window] for piece in material.pieces]
        return [chat_prompt(tokenizer, chat) for chat in chats] + books


def _check(config: EvaluateForgettingConfig) -> None:
    """What a user can get wrong, said before anything is loaded."""
    unknown = [name for name in config.tasks if name not in ALL_TASKS]
    if unknown:
        raise VoicegraftError(f"no task {unknown[0]!r}; choose among {', '.join(ALL_TASKS)}")
    if not 0 <= config.threshold <= 1:
        raise VoicegraftError(f"expected a threshold between 0 and 1, got {config.threshold}")
    for option, value, least in (("--limit", config.limit, 1), ("--shots", config.num_shots, 0)):
        if value is not None and value < least:
            raise VoicegraftError(f"expected {option} to be {least} or more, got {value}")
    if config.expert is not None and (config.pack is not None or config.backbone is None):
        raise VoicegraftError("--expert DIR goes with --backbone DIR and without --pack")
    if config.router is not None and config.expert is None:
        raise VoicegraftError("--router DIR goes with --expert DIR; a pack brings its own")
    need_matplotlib()
    if any(name in TASKS for name in config.tasks):
        need_harness()


def _backbone_folder(config: EvaluateForgettingConfig) -> Path:
    """Where the untouched backbone is."""
    if config.backbone is not None:
        return config.backbone
    pack = config.pack or DEFAULT_PACK
    return pack / read_header(pack).backbone


def _load_fused(config: EvaluateForgettingConfig, backbone: Path) -> SpeechLM:
    if config.expert is not None:
        return SpeechLM.load(backbone, config.expert, config.router, config.text_expert)
    return open_pack(config.pack or DEFAULT_PACK, config.backbone, config.text_expert).lm


def _about(config: EvaluateForgettingConfig, lm: SpeechLM, before: PreTrainedModel) -> Mapping[str, Any]:
    named = {name: getattr(config, name) for name in ("pack", "expert", "router", "text_expert")}
    if config.expert is None and config.pack is None:
        named["pack"] = DEFAULT_PACK
    return {
        **{name: path.name for name, path in named.items() if path is not None},
        "backbone": backbone_fingerprint(before),
        "router settings": None if lm.router is None else vars(lm.router.config.settings),
        "tasks": list(config.tasks),
        "limit": config.limit,
        "examples before a question": config.num_shots,
        "date": time.strftime("%Y-%m-%d"),
        **environment(_PACKAGES),
    }


if __name__ == "__main__":
    sys.exit(main())
