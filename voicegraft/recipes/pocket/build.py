"""Raw data -> the evaluated pocket pack, in one command.

    voicegraft recipe pocket data=DATA work=runs/pocket out=voicegraft/packs/pocket

Every stage is skipped when its result is there, and goes on from its last checkpoint when it was interrupted. The cost of
each stage goes to ``work/cost.json``. The pack's card gets the scores that the evaluation just measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from voicegraft.core.config import load_config
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.runtime import single_thread
from voicegraft.inference.pack import PackHeader, weight_bytes, write_pack
from voicegraft.inference.sentence import SpeakOptions
from voicegraft.recipes.command import commit, recipe_config
from voicegraft.recipes.evaluate_forgetting import EvaluateForgettingConfig, evaluate_forgetting
from voicegraft.recipes.evaluate_speech import EvaluateSpeechConfig, evaluate_speech
from voicegraft.recipes.pocket.prepare import PreparePocketConfig, prepare_pocket
from voicegraft.recipes.stages import Stage, costs, run_stages
from voicegraft.recipes.tokenize import TokenizeConfig, tokenize
from voicegraft.recipes.train_acoustic import TrainAcousticConfig, train_acoustic
from voicegraft.recipes.train_backbone import BackboneConfig, train_backbone
from voicegraft.recipes.train_codec import TrainCodecConfig, train_codec
from voicegraft.recipes.train_monitor import TrainMonitorConfig, train_monitor
from voicegraft.recipes.train_router import TrainRouterConfig, train_router
from voicegraft.recipes.train_semantic import TrainSemanticConfig, train_semantic
from voicegraft.recipes.train_speech import TrainSpeechConfig, train_speech
from voicegraft.recipes.train_vocoder import TrainVocoderConfig, train_vocoder

CONFIGS = Path(__file__).parent.parent / "configs" / "pocket"
T = TypeVar("T")


@dataclass(frozen=True)
class PocketConfig:
    data: str = "data"  # folder with the raw corpora (docs/data.md)
    work: str = "runs/pocket"  # receives everything in between
    out: str = "voicegraft/packs/pocket"  # the pack
    default_voice: str = "kathleen"
    options: SpeakOptions = field(default_factory=SpeakOptions)
    prompts: str = "prompts/harvard_001-360.txt"  # evaluation prompts, inside data
    num_prompts: int = 100
    evaluate: bool = True  # needs the extra "evaluate"


def main(argv: list[str] | None = None) -> None:
    single_thread()
    pocket(recipe_config(PocketConfig, __doc__, argv))


def pocket(config: PocketConfig) -> None:
    data, work = Path(config.data), Path(config.work)

    def settings(cls: type[T], name: str) -> T:
        overrides = [f"work={work}"]
        if cls in (PreparePocketConfig, BackboneConfig):
            overrides.append(f"data={data}")
        path = CONFIGS / f"{name}.yaml"
        return load_config(cls, path if path.is_file() else None, overrides)

    stages: list[tuple[str, Callable[[], object]]] = [
        ("speech", lambda: prepare_pocket(settings(PreparePocketConfig, "prepare_pocket"))),
        ("backbone", lambda: train_backbone(settings(BackboneConfig, "backbone"))),
        ("semantic", lambda: train_semantic(settings(TrainSemanticConfig, "semantic"))),
        ("codec", lambda: train_codec(settings(TrainCodecConfig, "codec"))),
        ("tokens", lambda: tokenize(settings(TokenizeConfig, "tokenize"))),
        ("monitor", lambda: train_monitor(settings(TrainMonitorConfig, "monitor"))),
        ("vocoder", lambda: train_vocoder(settings(TrainVocoderConfig, "vocoder"))),
        ("acoustic", lambda: train_acoustic(settings(TrainAcousticConfig, "acoustic"))),
        ("expert", lambda: train_speech(settings(TrainSpeechConfig, "speech"))),
        ("router", lambda: train_router(settings(TrainRouterConfig, "router"))),
    ]
    run_stages(work, [Stage(name, run) for name, run in stages])
    out = Path(config.out)
    header = PackHeader(
        "pocket",
        default_voice=config.default_voice,
        options=config.options,
        provenance={"recipe": "pocket", **commit()},
    )
    write_pack(out, work, header, card(config, work, None))
    if config.evaluate:
        names = load_config(PreparePocketConfig, None).recordings
        report = evaluate_speech(
            EvaluateSpeechConfig(
                out=work / "evaluation",
                prompts=data / config.prompts,
                pack=out,
                recordings=tuple(work / "corpora" / name for name in names),
                limit=config.num_prompts,
            )
        )
        shutil.copy(work / "evaluation" / "report.md", out / "EVALUATION.md")
        kept = evaluate_forgetting(EvaluateForgettingConfig(work / "forgetting", data, work, pack=out))
        lines = (work / "forgetting" / "report.md").read_text(encoding="utf-8").splitlines()
        write_text(out / "FORGETTING.md", "\n".join(line for line in lines if not line.startswith("![")))
        if not kept.passed:
            raise VoicegraftError(
                f"the pack in {out} forgets: its retention is {kept.retention}; see its FORGETTING.md"
            )
        (out / "CARD.md").write_text(card(config, work, report), encoding="utf-8")
    print(f"{out}: {sum(weight_bytes(out).values()) / 1e6:.1f} MB of weights")


def card(config: PocketConfig, work: Path, report: dict[str, Any] | None) -> str:
    """The pack's card for people: what it is, its data and licences, its recipe, its cost and its scores."""
    text = (CONFIGS / "CARD.md").read_text(encoding="utf-8")
    minutes = "\n".join(f"| {name} | {entry['minutes']} |" for name, entry in costs(work).items())
    scores = "Not evaluated." if report is None else "See EVALUATION.md for the table, intervals and the worst items."
    return text.format(commit=commit().get("commit", "unknown"), cost=minutes, scores=scores)


if __name__ == "__main__":
    main()
