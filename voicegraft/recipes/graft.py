"""Your backbone and your recordings -> a voice pack that speaks: the whole road, in one command.

    voicegraft graft CONFIG.yaml [key=value ...]
    voicegraft graft CONFIG.yaml --plan          # says what would be done, and stops

Prepares the recordings, finds out when each sound is said, tokenises them, trains the acoustic LM, the monitor, the speech
expert and the router, writes the pack, and evaluates it. The plan comes first. Every stage is skipped when it is done and goes
on where it was interrupted; what each cost is in ``work/cost.json``.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from voicegraft.core.artifacts import atomic_folder
from voicegraft.core.config import to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.hub import HUB, resolve
from voicegraft.core.processes import is_main_process
from voicegraft.core.runtime import single_thread
from voicegraft.data.checks import Limits
from voicegraft.data.manifest import read_manifest
from voicegraft.data.prepared import shard_folders
from voicegraft.encoders import speech_encoder as encoders
from voicegraft.encoders.hub_models import config_of
from voicegraft.export.card import pack_card
from voicegraft.inference.pack import DEFAULT_PACK, PackHeader, read_header, weight_bytes, write_pack
from voicegraft.inference.sentence import SpeakOptions
from voicegraft.recipes.align import AlignConfig, align
from voicegraft.recipes.command import commit, recipe_config
from voicegraft.recipes.evaluate_speech import EvaluateSpeechConfig, evaluate_speech
from voicegraft.recipes.fit_units import FitUnitsConfig, fit_units
from voicegraft.recipes.graft_plan import Estimates, show_plan
from voicegraft.recipes.prepare import PrepareConfig, prepare
from voicegraft.recipes.stages import Stage, costs, run_stages
from voicegraft.recipes.tokenize import TokenizeConfig, tokenize
from voicegraft.recipes.train_acoustic import TrainAcousticConfig, train_acoustic
from voicegraft.recipes.train_codec import TrainCodecConfig, train_codec
from voicegraft.recipes.train_monitor import TrainMonitorConfig, train_monitor
from voicegraft.recipes.train_router import TrainRouterConfig, train_router
from voicegraft.recipes.train_speech import TrainSpeechConfig, train_speech
from voicegraft.recipes.train_vocoder import TrainVocoderConfig, train_vocoder
from voicegraft.text.frontend import need_spelling, open_frontend, spoken_text
from voicegraft.tokenizers import codec_families
from voicegraft.tokenizers.hf_codec import HfCodec
from voicegraft.train.engine import main_first


@dataclass(frozen=True)
class CorpusChoice:
    layout: str | None = None  # of all corpora; empty: found out
    audio_root: Path | None = None  # where files that a manifest names may lie
    speaker: str | None = None  # of all recordings; empty: as the corpus says, else its name
    sample_rate: int = 24_000  # Hz
    val_share: float = 0.02  # of the texts that are held back
    shard_size: int = 1000  # recordings
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class SemanticChoice:
    encoder: str = (
        ""  # HuBERT, WavLM, w2v-BERT 2.0 or Whisper by folder or Hub name; empty: the pocket pack's tokenizer
    )
    layer: int = 0  # of the encoder ...
    vocab_size: int = 2000  # ... and units of the k-means on it
    steps: int = 1000  # of the k-means


@dataclass(frozen=True)
class CodecChoice:
    model: str = (
        ""  # Mimi, DAC or EnCodec by folder or Hub name; empty: the pocket pack's; train: one of your recordings
    )
    num_codebooks: int | None = None  # of a model; empty: all
    codec: TrainCodecConfig = field(default_factory=TrainCodecConfig)  # these two for "train"
    vocoder: TrainVocoderConfig = field(default_factory=TrainVocoderConfig)


@dataclass(frozen=True)
class EvaluateChoice:
    prompts: str = ""  # text file, one per line; empty: texts of recordings that were held back
    limit: int = 20  # prompts


@dataclass(frozen=True)
class GraftConfig:
    backbone: str  # folder of a causal LM, or its name on the Hugging Face Hub
    corpora: tuple[str, ...]  # recordings with their texts, in any layout that `voicegraft prepare` knows
    work: str = "runs/mine"  # receives everything in between
    out: str = "runs/mine/pack"  # the pack
    name: str = "mine"
    licence: str = ""  # of the pack, for its card ...
    language: tuple[str, ...] = ("en",)  # ... and what it speaks
    frontend: str = "english"  # how written text is read; verbatim: as it stands, for the plain layout in any language
    default_voice: str = ""  # empty: the first
    copy_backbone: bool | None = (
        None  # into the pack; empty: yes where it is a folder, no where it is a name on the Hub
    )
    workers: int = 1  # processes that prepare and tokenise
    device: str = "auto"
    corpus: CorpusChoice = field(default_factory=CorpusChoice)
    align: AlignConfig = field(default_factory=AlignConfig)  # for the guided layout
    semantic: SemanticChoice = field(default_factory=SemanticChoice)
    codec: CodecChoice = field(default_factory=CodecChoice)
    monitor: TrainMonitorConfig = field(default_factory=TrainMonitorConfig)  # for the guided layout
    acoustic: TrainAcousticConfig = field(default_factory=TrainAcousticConfig)
    speech: TrainSpeechConfig = field(default_factory=TrainSpeechConfig)
    router: TrainRouterConfig | None = field(default_factory=TrainRouterConfig)  # null: the task chooses the expert
    options: SpeakOptions = field(default_factory=SpeakOptions)
    evaluate: EvaluateChoice | None = None  # empty: not; needs the extra "evaluate"


def main(argv: list[str] | None = None) -> None:
    single_thread()
    argv = list(sys.argv[1:] if argv is None else argv)
    only_plan = "--plan" in argv
    config = recipe_config(GraftConfig, __doc__, [a for a in argv if a != "--plan"])
    graft(config, only_plan)


def graft(config: GraftConfig, only_plan: bool = False) -> None:
    """Raises VoicegraftError: something is missing or was done otherwise before, or a stage was interrupted."""
    work = Path(config.work)
    # What is missing is to show before hours are spent.
    need_spelling(config.frontend, config.speech.layout)
    resolve(config.backbone)
    if config.evaluate is not None and find_spec("pocketsphinx") is None:
        raise VoicegraftError(
            "the judges of evaluate are not installed: pip install voicegraft[evaluate], or leave evaluate out"
        )
    if config.semantic.encoder:
        config_of(config.semantic.encoder, encoders.WANTED, encoders.FAMILIES)
    if config.codec.model not in ("", "train"):
        config_of(config.codec.model, "codec", codec_families.FAMILIES)
    with main_first():
        stages = _stages(config, work)
        if is_main_process():
            _remember(config, work)
            show_plan(config.name, work, stages)
    if only_plan:
        return
    run_stages(work, stages)
    if not is_main_process():
        return
    minutes = sum(entry["minutes"] for entry in costs(work).values())
    print(
        f"{config.out}: {sum(weight_bytes(Path(config.out)).values()) / 1e6:.0f} MB of weights, {minutes:.0f} minutes"
    )
    print(f'now: voicegraft speak "Hello." --pack {config.out}')


def _stages(config: GraftConfig, work: Path) -> list[Stage]:
    here: dict[str, Any] = {"work": str(work), "device": config.device}  # of every recipe that trains
    backbone = {"backbone": str(config.backbone), "frontend": config.frontend}
    guided, trains_codec = config.speech.layout == "guided", config.codec.model == "train"
    stages = [Stage("prepare", lambda: _prepare(config, work), "speech", "decode, check and level the recordings")]

    def add(name: str, run: Callable[[], object], about: str, result: str = "", together: bool = False) -> None:
        stages.append(Stage(name, run, result, about, together=together))

    def train(name: str, recipe: Callable[[Any], object], settings: Any, about: str, **more: str) -> None:
        add(name, lambda: recipe(replace(settings, **here, **more)), about, together=True)

    if guided:
        add("align", lambda: align(replace(config.align, work=str(work))), "time each sound", "alignments/round0/done")
    add("semantic", lambda: _semantic(config, work), "the semantic tokenizer")
    if trains_codec:
        train("codec", train_codec, config.codec.codec, "train the acoustic tokenizer")
    else:
        add("codec", lambda: _codec(config, work), "the acoustic tokenizer")
    made = TokenizeConfig(str(work), workers=config.workers, device=config.device)
    add("tokens", lambda: tokenize(made), "tokenise the recordings")
    if trains_codec:
        train("vocoder", train_vocoder, config.codec.vocoder, "train the vocoder")
    if guided:
        train("monitor", train_monitor, config.monitor, "train what watches speech")
    train("acoustic", train_acoustic, config.acoustic, "train the acoustic LM")
    train("expert", train_speech, config.speech, "train the speech expert", **backbone)
    if config.router is not None:
        add("sentences", lambda: _sentences(config, work), "texts for the router", "sentences.txt")
        # Questions that are made up: a graft has no corpora of others.
        asked = replace(config.router.questions, dialogue=0, trivia=0, yes_or_no=0)
        train("router", train_router, replace(config.router, questions=asked), "train the router", **backbone)
    out = str(Path(config.out).absolute())
    stages.append(Stage("pack", lambda: _pack(config, work), out, "gather the parts", always=True))
    if config.evaluate is not None:
        add("evaluation", lambda: _evaluate(config, work), "measure the pack", "evaluation/report.md")
    estimate = Estimates.of(config, work)
    return [estimate.fill(stage) for stage in stages]


def _prepare(config: GraftConfig, work: Path) -> None:
    c = config.corpus
    prepare(
        PrepareConfig(
            config.corpora,
            work,
            c.layout,
            c.audio_root,
            speaker=c.speaker,
            sample_rate=c.sample_rate,
            val_share=c.val_share,
            shard_size=c.shard_size,
            num_workers=config.workers,
            features=config.codec.model == "train",
            limits=c.limits,
        )
    )


def _semantic(config: GraftConfig, work: Path) -> None:
    c = config.semantic
    if c.encoder:
        fit_units(FitUnitsConfig(c.encoder, c.layer, str(work), c.vocab_size, steps=c.steps, device=config.device))
    else:
        _copy(DEFAULT_PACK / "semantic", work / "semantic")


def _codec(config: GraftConfig, work: Path) -> None:
    c = config.codec
    if c.model:
        HfCodec.from_model(c.model, c.num_codebooks).save(work / "codec", {"model": c.model})
    else:
        _copy(DEFAULT_PACK / "vocoder", work / "vocoder")
        _copy(DEFAULT_PACK / "codec", work / "codec")


def _sentences(config: GraftConfig, work: Path) -> None:
    """What the recordings say, where no alignment has written it."""
    path = work / "sentences.txt"
    if not path.is_file():
        frontend = open_frontend(config.frontend)
        rows = (row for folder in shard_folders(work) for row in read_manifest(folder) if row.split == "train")
        write_text(path, "\n".join(filter(None, (spoken_text(frontend, row.text) for row in rows))))


def _pack(config: GraftConfig, work: Path) -> None:
    folder = resolve(config.backbone)
    local = Path(config.backbone).is_dir()
    copied = local if config.copy_backbone is None else config.copy_backbone
    if copied:
        _copy(folder, work / "backbone", "config.json")
    named = "backbone" if copied else HUB + config.backbone.removeprefix(HUB)
    if not copied and local:
        named = Path(config.backbone).name  # given with --backbone when the pack is opened
    rows = [row for folder in shard_folders(work) for row in read_manifest(folder)]
    provenance = {
        "recipe": "graft",
        **commit(),
        "hours": round(sum(row.duration_sec for row in rows) / 3600, 2),
        "backbone": Path(config.backbone).name if local else config.backbone,
        "corpora": [Path(corpus).name for corpus in config.corpora],
        "minutes": {name: entry["minutes"] for name, entry in costs(work).items()},
    }
    header = PackHeader(
        name=config.name,
        default_voice=config.default_voice,
        options=config.options,
        frontend=config.frontend,
        backbone=named,
        provenance=provenance,
    )
    write_pack(Path(config.out), work, header, _card(config, work, header))
    _tell_scores(config, work, header)


def _card(config: GraftConfig, work: Path, header: PackHeader) -> str:
    return pack_card(header, work, licence=config.licence, language=config.language)


def _evaluate(config: GraftConfig, work: Path) -> None:
    assert config.evaluate is not None
    prompts = Path(config.evaluate.prompts) if config.evaluate.prompts else work / "evaluation-prompts.txt"
    if not config.evaluate.prompts:
        held = {row.text for folder in shard_folders(work) for row in read_manifest(folder) if row.split != "train"}
        write_text(prompts, "\n".join(" ".join(text.split()) for text in sorted(held)))
    evaluate_speech(
        EvaluateSpeechConfig(
            out=work / "evaluation", prompts=prompts, pack=Path(config.out), limit=config.evaluate.limit
        )
    )
    _tell_scores(config, work, read_header(Path(config.out)))


def _tell_scores(config: GraftConfig, work: Path, header: PackHeader) -> None:
    """Puts the evaluation beside the pack and into its card, where there is one."""
    report, out = work / "evaluation" / "report.md", Path(config.out)
    if report.is_file():
        shutil.copy(report, out / "EVALUATION.md")
        write_text(out / "CARD.md", _card(config, work, header))


def _copy(source: Path, target: Path, marker: str = "config.json") -> None:
    with atomic_folder(target, marker) as draft:
        shutil.copytree(source, draft, dirs_exist_ok=True)


def _remember(config: GraftConfig, work: Path) -> None:
    """Notes the configuration; refuses one with which a stage that is done would have come out otherwise."""
    path = work / "graft.json"
    now = {key: value for key, value in to_dict(config).items() if key in _DEPENDS}
    if path.is_file():
        before: dict[str, Any] = {"frontend": "english", **json.loads(path.read_text(encoding="utf-8"))}
        done = {name for name, entry in costs(work).items() if entry["done"]}
        for key, stages in _DEPENDS.items():
            if before.get(key) != now[key] and done & set(stages):
                spoilt = sorted(done & set(stages))
                raise VoicegraftError(
                    f"{work} was begun with another {key} and has done {', '.join(spoilt)} with it: use another work folder, "
                    f"or restore {key} (the old one is in {path})"
                )
    write_text(path, json.dumps(now, indent=2))


# Part of the configuration -> the stages that it makes. The others may change between two runs in one work folder.
_DEPENDS: dict[str, tuple[str, ...]] = {
    "backbone": ("expert", "router"),
    "corpora": ("prepare",),
    "frontend": ("expert", "router"),
    "corpus": ("prepare",),
    "align": ("align",),
    "semantic": ("semantic",),
    "codec": ("codec",),
    "monitor": ("monitor",),
    "acoustic": ("acoustic",),
    "speech": ("expert",),
    "router": ("router",),
}


if __name__ == "__main__":
    main()
