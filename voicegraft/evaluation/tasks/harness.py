"""Text tasks through lm-evaluation-harness (Gao et al.), on local files, with a fused model's gates around every call.

Questions are asked in the tokenizer's chat template where it has one, one at a time, since a router of segments looks at the
whole prompt. A task with options is scored by the likelihood of each option; the router then sees question and option.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.core.errors import VoicegraftError
from voicegraft.data import questions as qa
from voicegraft.evaluation.tasks.forgetting import Measured, constant_answer

Doc = dict[str, Any]  # question, answer (text, or number of the option) and, where there are options, choices


@dataclass(frozen=True)
class LocalTask:
    """A task, or one subject of it, as the harness gets it."""

    name: str
    test: tuple[Doc, ...]
    shots: tuple[Doc, ...]  # examples to show before a question, taken from the first on

    @property
    def has_options(self) -> bool:
        return "choices" in self.test[0]


def read_arc_easy(folder: Path) -> list[LocalTask]:
    """ARC-Easy in the form of LLM-Adapters: ``test.json`` and ``train.json``."""
    parts = {}
    for part in ("test", "train"):
        rows = []
        for row in _read_json(folder / f"{part}.json"):
            found = re.search(r"question: (.+?)\n\n(Answer1: .+?)\n\nAnswer format", row["instruction"], re.DOTALL)
            if found:
                choices = [choice.strip() for choice in re.split(r"\s*Answer\d: ", found[2])[1:]]
                rows.append({"question": found[1], "choices": choices, "answer": int(row["answer"][-1]) - 1})
        parts[part] = tuple(rows)
    return [LocalTask("arc_easy", parts["test"], parts["train"])]


def read_boolq(folder: Path) -> list[LocalTask]:
    """BoolQ in the form of LLM-Adapters: without the passages, so it asks for knowledge."""
    parts: dict[bool, list[Doc]] = {True: [], False: []}
    for question in qa.yes_or_no(folder):
        doc = {"question": question.text, "choices": ["no", "yes"], "answer": int(question.answer == "yes")}
        parts[question.held_out].append(doc)
    return [LocalTask("boolq", tuple(parts[True]), tuple(parts[False]))]


def read_gsm8k(folder: Path) -> list[LocalTask]:
    """GSM8K: ``test.jsonl`` and ``train.jsonl``; the answer ends with ``#### number``."""
    parts = [tuple(map(json.loads, _read(folder / f"{p}.jsonl").strip().split("\n"))) for p in ("test", "train")]
    return [LocalTask("gsm8k", *parts)]


def read_mmlu(folder: Path) -> list[LocalTask]:
    """MMLU: ``test/SUBJECT_test.csv`` and ``dev/SUBJECT_dev.csv``, a task for each subject."""
    tasks = []
    for path in sorted((folder / "test").glob("*_test.csv")):
        subject = path.name.removesuffix("_test.csv")
        parts = (path, folder / "dev" / f"{subject}_dev.csv")
        tasks.append(LocalTask(f"mmlu {subject}", *(tuple(map(_mmlu_doc, _read_csv(part))) for part in parts)))
    return tasks


def _mmlu_doc(row: Mapping[str, str]) -> Doc:
    letters = "ABCD"
    options = "\n".join(f"{letter}. {row[f'choice{i}']}" for i, letter in enumerate(letters))
    return {
        "question": f"{row['question'].strip()}\n{options}",
        "choices": list(letters),
        "answer": int(row["answer"]),
    }


# Task -> its folder among the unpacked corpora, and who reads it.
TASKS: dict[str, tuple[str, Callable[[Path], list[LocalTask]]]] = {
    "arc_easy": ("llm-adapters-qa/ARC-Easy", read_arc_easy),
    "mmlu": ("mmlu", read_mmlu),
    "gsm8k": ("gsm8k", read_gsm8k),
    "boolq": ("llm-adapters-qa/boolq", read_boolq),
}


def local_tasks(name: str, corpora: Path, limit: int | None) -> list[LocalTask]:
    """The parts of a task of ``TASKS``, with ``limit`` questions in all, drawn the same way every time.

    Raises:
        VoicegraftError: the files are missing or hold something else.
    """
    place, read = TASKS[name]
    try:
        tasks = read(corpora / place)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise VoicegraftError(
            f"{corpora / place} does not hold {name} as docs/evaluation.md describes: {error!r}"
        ) from error
    places = [(i, j) for i, task in enumerate(tasks) for j in range(len(task.test))]
    if not places:
        raise VoicegraftError(f"{corpora / place} holds no questions of {name}; docs/data.md says where the copies are")
    if limit is not None and limit < len(places):
        places = sorted(random.Random(0).sample(places, limit))
    kept = [tuple(task.test[j] for at, j in places if at == i) for i, task in enumerate(tasks)]
    return [replace(task, test=test) for task, test in zip(tasks, kept, strict=True) if test]


def need_harness() -> None:
    """Raises VoicegraftError where lm-evaluation-harness is missing."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"):
        os.environ.setdefault(name, "1")  # before the first import: all files are local
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of what is meant here
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise VoicegraftError("these tasks need lm-evaluation-harness: pip install voicegraft[harness]") from error


def run_task(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[LocalTask],
    num_shots: int = 0,
    gated: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Measured:
    """Puts one task, in all of its parts, to a model.

    Args:
        tasks: of ``local_tasks``.
        num_shots: examples with answers before every question; what does not fit the context is cut off in front.
        gated: entered anew for every call of the model.

    Raises:
        VoicegraftError: lm-evaluation-harness is missing.
    """
    need_harness()
    import lm_eval
    from lm_eval.tasks import TaskManager

    results = lm_eval.simple_evaluate(
        model=_gated_model(model, tokenizer, gated),
        tasks=[_harness_config(task) for task in tasks],
        num_fewshot=num_shots,
        apply_chat_template=tokenizer.chat_template is not None,
        bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False),
    )
    rows = [row for task in tasks for row in sorted(results["samples"][task.name], key=lambda row: row["doc_id"])]
    docs = [doc for task in tasks for doc in task.test]
    if tasks[0].has_options:
        chosen = [max(range(len(row["filtered_resps"])), key=lambda i: row["filtered_resps"][i][0]) for row in rows]
        guessing = sum(1 / len(doc["choices"]) for doc in docs) / len(docs)
        return Measured(
            "chosen",
            float(sum(row["acc"] for row in rows) / len(rows)),
            max(guessing, constant_answer([doc["answer"] for doc in docs])),
            len(rows),
            tuple(map(str, chosen)),
        )
    return Measured(
        "generated",
        float(sum(row["exact_match"] for row in rows) / len(rows)),
        constant_answer([doc["answer"].rpartition("#### ")[2] for doc in docs]),
        len(rows),
        tuple(row["resps"][0][0] for row in rows),
    )


def _harness_config(task: LocalTask) -> dict[str, Any]:
    """The task as lm-evaluation-harness describes tasks; the prompts are those of its own ARC and GSM8K."""
    import datasets

    def load(**_: Any) -> dict[str, Any]:
        return {part: datasets.Dataset.from_list(list(getattr(task, part))) for part in ("test", "shots")}

    config: dict[str, Any] = {
        "task": task.name,
        "custom_dataset": load,
        "test_split": "test",
        "fewshot_split": "shots",
        "fewshot_config": {"sampler": "first_n"},
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "answer",
    }
    if task.has_options:
        options = {"output_type": "multiple_choice", "doc_to_choice": "choices"}
        return config | options | {"metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]}
    exact = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, "ignore_case": True}
    last_number = {"function": "regex", "group_select": -1, "regex_pattern": r"(-?[$0-9.,]{2,})|(-?[0-9]+)"}
    return config | {
        "output_type": "generate_until",
        "generation_kwargs": {"until": ["Question:"], "do_sample": False, "temperature": 0.0},
        "filter_list": [{"name": "last number", "filter": [last_number, {"function": "take_first"}]}],
        "metric_list": [exact | {"regexes_to_ignore": [",", r"\$", r"(?s).*#### ", r"\.$"]}],
    }


def _gated_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, gated: Callable[[], AbstractContextManager[None]]
) -> Any:
    """The harness's model class, made here because importing it takes seconds and is optional."""
    from lm_eval.models.huggingface import HFLM

    class GatedModel(HFLM):
        def _model_call(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            with gated():
                return super()._model_call(*args, **kwargs)

        def _model_generate(self, context: torch.Tensor, max_length: int, **kwargs: Any) -> torch.Tensor:
            # Said in new tokens too, since a model's own generation_config.json may say so and would win.
            kwargs["max_new_tokens"] = max_length - context.shape[1]
            with gated():
                return super()._model_generate(context=context, max_length=max_length, **kwargs)

        def get_model_info(self) -> dict[str, Any]:
            return {}  # the original asks the Hub

    return GatedModel(pretrained=model, tokenizer=tokenizer, batch_size=1)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VoicegraftError(f"cannot read {path}: {error}; docs/data.md says where the public copies are") from error


def _read_json(path: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(_read(path))
    return rows


def _read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(_read(path), newline="")))
