"""Held-out perplexity and question-answering accuracy of any Hugging Face causal language model.

    voicegraft evaluate backbone model=runs/pocket/backbone data=DATA work=runs/pocket

Uses the model's own tokenizer and chat template (without one: "Question: ... Answer:"). Perplexity per token
compares models of one tokenizer, perplexity per word any models. Prints a table and writes
``{work}/backbone-report.json``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from voicegraft.core.files import write_text
from voicegraft.core.runtime import pick_device, single_thread
from voicegraft.evaluation.tasks.base import Measured, Subject
from voicegraft.evaluation.tasks.held_out import OWN, PERPLEXITY, HeldOut, TextTasksConfig
from voicegraft.fusion.backbone import load_backbone
from voicegraft.recipes.command import recipe_config


@dataclass(frozen=True, kw_only=True)
class EvaluateBackboneConfig(TextTasksConfig):
    model: str = "runs/pocket/backbone"  # Hugging Face folder, or a name on the Hub
    data: str = "data"  # folder with the raw corpora
    work: str = "runs/pocket"  # folder that receives the unpacked corpora and the report
    tasks: tuple[str, ...] = (OWN, PERPLEXITY)  # and arc_easy, mmlu, gsm8k, boolq (docs/evaluation.md)
    device: str = "auto"


def main(argv: list[str] | None = None) -> None:
    for name, found in evaluate_backbone(recipe_config(EvaluateBackboneConfig, __doc__, argv)).items():
        if found.kind == "perplexity":
            print(f"{name:22} {found.score:8.2f} per token {found.per_word:8.2f} per word")
        else:
            print(f"{name:22} right {found.score:.3f}   chance {found.chance:.3f}   of {found.count}")


def evaluate_backbone(config: EvaluateBackboneConfig) -> dict[str, Measured]:
    """Part of a task -> what the model did."""
    config.check(config.tasks)
    device, work = pick_device(config.device), Path(config.work)
    if device.type == "cpu":
        single_thread()
    held_out = HeldOut.read(config, work / "corpora", config.tasks, Path(config.data))
    backbone, tokenizer = load_backbone(config.model)
    found = held_out.measure(Subject(backbone.to(device), tokenizer), config.tasks)  # type: ignore[arg-type]
    report = {
        "model": config.model,
        "tasks": {name: asdict(part) for name, part in found.items()},
        "questions": [vars(question) for question in held_out.asked.questions],  # in the order of the own answers
    }
    write_text(work / "backbone-report.json", json.dumps(report, indent=1))
    return found


if __name__ == "__main__":
    main()
