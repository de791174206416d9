"""What the text LLM can still do with a voice grafted on: before and after, task by task, and one number.

    voicegraft evaluate forgetting [--pack DIR] --data DATA --work runs/pocket
    voicegraft evaluate forgetting --backbone DIR --expert DIR [--router DIR] [--text-expert DIR] --tasks own,arc_easy,mmlu ...

Before is the untouched backbone, loaded for itself; after is the fused model in text mode, its router choosing. Writes
report.json, report.md with figures and report.html. Exit status 1 when the retention is below the threshold, 2 for a mistake in
what was given.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from voicegraft.core.command_line import read_options
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import is_hub_name, opened
from voicegraft.core.runtime import pick_device, single_thread
from voicegraft.evaluation.reports.document import need_matplotlib
from voicegraft.evaluation.reports.plots import figures
from voicegraft.evaluation.reports.summary import environment
from voicegraft.evaluation.tasks.base import Subject
from voicegraft.evaluation.tasks.forgetting import (
    ForgettingReport,
    compare,
    logit_difference,
    retention,
    same_answers,
    write_report,
)
from voicegraft.evaluation.tasks.held_out import OWN, PERPLEXITY, HeldOut, TextTasksConfig
from voicegraft.evaluation.tasks.routing import confusion
from voicegraft.fusion.backbone import backbone_fingerprint, load_backbone
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.inference.pack import DEFAULT_PACK, open_pack, pack_folder, read_header

_PACKAGES = ("torch", "transformers", "peft", "lm_eval", "datasets")


@dataclass(frozen=True, kw_only=True)
class EvaluateForgettingConfig(TextTasksConfig):
    out: Path | None = None  # folder for the report (default: WORK/forgetting)
    data: Path = Path("data")  # folder with the raw corpora
    work: Path = Path("runs/pocket")  # folder that receives the unpacked corpora
    pack: Path | None = None  # voice pack (default: the pocket pack)
    backbone: Path | None = None  # folder of the text LLM, for an expert, or for a pack that does not hold it
    expert: Path | None = None  # folder of the speech expert, in place of a pack
    router: Path | None = None  # with an expert; without it the task chooses
    text_expert: Path | None = None  # PEFT's adapter folder that writes (default: the identity)
    tasks: tuple[str, ...] = (OWN, PERPLEXITY)  # with commas or spaces between; more: arc_easy, mmlu, gsm8k, boolq
    threshold: float = 0.99  # least retention
    num_spoken: int = 600  # prompts of speech for the router: sentences times voices
    device: str = "auto"

    @property
    def folder(self) -> Path:
        return self.out or self.work / "forgetting"


def main(argv: list[str] | None = None) -> int:
    names = {"num_shots": "shots"}
    config = read_options(EvaluateForgettingConfig, argv, __doc__, "voicegraft evaluate forgetting", names=names)
    config = replace(config, tasks=tuple(",".join(config.tasks).split(",")))
    report = evaluate_forgetting(config)
    print((config.folder / "report.md").read_text(encoding="utf-8"))
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
    folder = _backbone_folder(config)
    held_out = HeldOut.read(config, config.work / "corpora", config.tasks, config.data)
    lm = (fused or _load_fused(config, folder)).to(device)
    backbone, tokenizer = load_backbone(folder)
    before, after = Subject(backbone.to(device), tokenizer), Subject.writing(lm)  # type: ignore[arg-type]
    scores = [held_out.measure(subject, config.tasks) for subject in (before, after)]
    rows, texts = compare(*scores), held_out.prompts(tokenizer)
    report = ForgettingReport(
        rows=tuple(rows),
        retention=retention(rows),
        threshold=config.threshold,
        logit_difference=logit_difference(before.model, after, texts),
        num_texts=len(texts),
        same_answers=same_answers(*scores),
        router=confusion(lm, texts, held_out.sentences(lm.vocabulary.voices, config.num_spoken)),
        about=_about(config, lm, before.model),
    )
    write_report(config.folder, report, figures(report))
    return report


def _check(config: EvaluateForgettingConfig) -> None:
    """What a user can get wrong, said before anything is loaded."""
    config.check(config.tasks)
    if not 0 <= config.threshold <= 1:
        raise VoicegraftError(f"expected a threshold between 0 and 1, got {config.threshold}")
    if config.expert is not None and (config.pack is not None or config.backbone is None):
        raise VoicegraftError("--expert DIR goes with --backbone DIR and without --pack")
    if config.router is not None and config.expert is None:
        raise VoicegraftError("--router DIR goes with --expert DIR; a pack brings its own")
    need_matplotlib()


def _backbone_folder(config: EvaluateForgettingConfig) -> Path:
    """Where the untouched backbone is, here or in the copy of what the pack names."""
    if config.backbone is not None:
        return config.backbone
    pack = pack_folder(config.pack)
    named = read_header(pack).backbone
    return opened(named) if is_hub_name(named) else pack / named


def _load_fused(config: EvaluateForgettingConfig, backbone: Path) -> SpeechLM:
    if config.expert is not None:
        return SpeechLM.load(backbone, config.expert, config.router, config.text_expert)
    return open_pack(pack_folder(config.pack), config.backbone, config.text_expert).lm


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
