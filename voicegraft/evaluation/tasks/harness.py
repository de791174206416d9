"""Public text tasks through lm-evaluation-harness (Gao et al.), on local files, with a fused model's gates around every call.

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from voicegraft.core.errors import VoicegraftError
from voicegraft.data import questions as qa
from voicegraft.evaluation.tasks.base import Kind, Measured, Subject, constant_answer

Doc = dict[str, Any]  # question, answer (text, or number of the option) and, where there are options, choices


@dataclass(frozen=True)
class Subset:
    """A public task, or one subject of it."""

    name: str
    test: tuple[Doc, ...]
    shots: tuple[Doc, ...]  # examples to show before a question, taken from the first on


def _choices(name: str) -> Callable[[Path], list[Subset]]:
    """Multiple choice in the form of LLM-Adapters: ``test.json``, and ``train.json`` where there is one."""

    def read(folder: Path) -> list[Subset]:
        parts = [folder / f"{part}.json" for part in ("test", "train")]
        test, shots = (
            tuple(map(vars, qa.choices(part))) if part.is_file() or part is parts[0] else () for part in parts
        )
        return [Subset(name, tuple({**doc, "choices": list(doc["choices"])} for doc in test), shots)]

    return read


def _boolq(folder: Path) -> list[Subset]:
    """BoolQ in the form of LLM-Adapters: without the passages, so it asks for knowledge."""
    parts: dict[bool, list[Doc]] = {True: [], False: []}
    for question in qa.yes_or_no(folder):
        doc = {"question": question.text, "choices": ["no", "yes"], "answer": int(question.answer == "yes")}
        parts[question.held_out].append(doc)
    return [Subset("boolq", tuple(parts[True]), tuple(parts[False]))]


def _gsm8k(folder: Path) -> list[Subset]:
    """GSM8K: ``test.jsonl`` and ``train.jsonl``; the answer ends with ``#### number``."""
    parts = [tuple(map(json.loads, _read(folder / f"{p}.jsonl").strip().split("\n"))) for p in ("test", "train")]
    return [Subset("gsm8k", *parts)]


def _mmlu(folder: Path) -> list[Subset]:
    """MMLU: ``test/SUBJECT_test.csv`` and ``dev/SUBJECT_dev.csv``, a subset for each subject."""
    subsets = []
    for path in sorted((folder / "test").glob("*_test.csv")):
        subject = path.name.removesuffix("_test.csv")
        parts = (path, folder / "dev" / f"{subject}_dev.csv")
        rows = (csv.DictReader(io.StringIO(_read(part), newline="")) for part in parts)
        subsets.append(Subset(f"mmlu {subject}", *(tuple(map(_mmlu_doc, part)) for part in rows)))
    return subsets


def _mmlu_doc(row: Mapping[str, str]) -> Doc:
    options = "\n".join(f"{letter}. {row[f'choice{i}']}" for i, letter in enumerate("ABCD"))
    question = f"{row['question'].strip()}\n{options}"
    return {"question": question, "choices": list("ABCD"), "answer": int(row["answer"])}


# Task -> its folder among the unpacked corpora, and who reads it.
PUBLIC: dict[str, tuple[str, Callable[[Path], list[Subset]]]] = {
    "arc_easy": ("llm-adapters-qa/ARC-Easy", _choices("arc_easy")),
    "arc_challenge": ("llm-adapters-qa/ARC-Challenge", _choices("arc_challenge")),
    "openbookqa": ("llm-adapters-qa/openbookqa", _choices("openbookqa")),
    "piqa": ("llm-adapters-qa/piqa", _choices("piqa")),
    "winogrande": ("llm-adapters-qa/winogrande", _choices("winogrande")),
    "mmlu": ("mmlu", _mmlu),
    "gsm8k": ("gsm8k", _gsm8k),
    "boolq": ("llm-adapters-qa/boolq", _boolq),
}


def need_harness() -> None:
    """Raises VoicegraftError where lm-evaluation-harness is missing."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"):
        os.environ.setdefault(name, "1")  # before the first import: all files are local
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of what is meant here
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise VoicegraftError("these tasks need lm-evaluation-harness: pip install voicegraft[harness]") from error


@dataclass(frozen=True)
class PublicTask:
    name: str
    subsets: tuple[Subset, ...]
    num_shots: int = 0  # examples with answers before every question; what does not fit the context is cut off in front

    @staticmethod
    def read(name: str, corpora: Path, limit: int | None = None, num_shots: int = 0) -> PublicTask:
        """A task of ``PUBLIC``, with ``limit`` questions in all, drawn the same way every time.

        Raises:
            VoicegraftError: the files are missing or hold something else.
        """
        place, read = PUBLIC[name]
        try:
            subsets = read(corpora / place)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise VoicegraftError(
                f"{corpora / place} does not hold {name} as docs/evaluation.md describes: {error!r}"
            ) from error
        if num_shots and not all(subset.shots for subset in subsets):
            raise VoicegraftError(
                f"{corpora / place} has no examples to show before a question of {name}: ask with --shots 0"
            )
        numbers = [(i, j) for i, subset in enumerate(subsets) for j in range(len(subset.test))]
        if not numbers:
            raise VoicegraftError(
                f"{corpora / place} holds no questions of {name}; docs/data.md says where the copies are"
            )
        if limit is not None and limit < len(numbers):
            numbers = sorted(random.Random(0).sample(numbers, limit))
        kept = [tuple(subset.test[j] for at, j in numbers if at == i) for i, subset in enumerate(subsets)]
        chosen = [replace(subset, test=test) for subset, test in zip(subsets, kept, strict=True) if test]
        return PublicTask(name, tuple(chosen), num_shots)

    def measure(self, subject: Subject) -> dict[str, Measured]:
        """Raises VoicegraftError: lm-evaluation-harness is missing."""
        need_harness()
        import lm_eval
        from lm_eval.tasks import TaskManager

        samples = lm_eval.simple_evaluate(
            model=_gated_model(subject),
            tasks=[_harness_config(subset) for subset in self.subsets],
            num_fewshot=self.num_shots,
            apply_chat_template=subject.tokenizer.chat_template is not None,
            bootstrap_iters=0,
            task_manager=TaskManager(include_defaults=False),
        )["samples"]
        rows = [row for subset in self.subsets for row in sorted(samples[subset.name], key=lambda row: row["doc_id"])]
        docs = [doc for subset in self.subsets for doc in subset.test]
        kind: Kind
        if "choices" in docs[0]:
            kind, metric, key = "chosen", "acc", [doc["answer"] for doc in docs]
            guessing = sum(1 / len(doc["choices"]) for doc in docs) / len(docs)
            likelihoods = ([option[0] for option in row["filtered_resps"]] for row in rows)
            answers = [str(options.index(max(options))) for options in likelihoods]
        else:
            kind, metric, key = "generated", "exact_match", [doc["answer"].rpartition("#### ")[2] for doc in docs]
            guessing, answers = 0.0, [row["resps"][0][0] for row in rows]
        score = float(sum(row[metric] for row in rows) / len(rows))
        return {self.name: Measured(kind, score, max(guessing, constant_answer(key)), len(rows), tuple(answers))}


def _harness_config(subset: Subset) -> dict[str, Any]:
    """The task as lm-evaluation-harness describes tasks; the prompts are those of its own ARC and GSM8K."""
    import datasets

    def load(**_: Any) -> dict[str, Any]:
        return {part: datasets.Dataset.from_list(list(getattr(subset, part))) for part in ("test", "shots")}

    config: dict[str, Any] = {
        "task": subset.name,
        "custom_dataset": load,
        "test_split": "test",
        "fewshot_split": "shots",
        "fewshot_config": {"sampler": "first_n"},
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "answer",
    }
    mean = {"aggregation": "mean", "higher_is_better": True}
    if "choices" in subset.test[0]:
        options = {"output_type": "multiple_choice", "doc_to_choice": "choices"}
        return config | options | {"metric_list": [{"metric": "acc", **mean}]}
    exact = {"metric": "exact_match", **mean, "ignore_case": True}
    last_number = {"function": "regex", "group_select": -1, "regex_pattern": r"(-?[$0-9.,]{2,})|(-?[0-9]+)"}
    return config | {
        "output_type": "generate_until",
        "generation_kwargs": {"until": ["Question:"], "do_sample": False, "temperature": 0.0},
        "filter_list": [{"name": "last number", "filter": [last_number, {"function": "take_first"}]}],
        "metric_list": [exact | {"regexes_to_ignore": [",", r"\$", r"(?s).*#### ", r"\.$"]}],
    }


def _gated_model(subject: Subject) -> Any:
    """The harness's model class, made here because importing it takes seconds and is optional."""
    from lm_eval.models.huggingface import HFLM

    class GatedModel(HFLM):
        def _model_call(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            with subject.gated():
                return super()._model_call(*args, **kwargs)

        def _model_generate(self, context: torch.Tensor, max_length: int, **kwargs: Any) -> torch.Tensor:
            # Said in new tokens too, since a model's own generation_config.json may say so and would win.
            kwargs["max_new_tokens"] = max_length - context.shape[1]
            with subject.gated():
                return super()._model_generate(context=context, max_length=max_length, **kwargs)

        def get_model_info(self) -> dict[str, Any]:
            return {}  # the original asks the Hub

    return GatedModel(pretrained=subject.model, tokenizer=subject.tokenizer, batch_size=1)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VoicegraftError(f"cannot read {path}: {error}; docs/data.md says where the public copies are") from error
