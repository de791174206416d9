"""Your backbone and your recordings -> a voice pack that speaks: the whole road, in one command.

    voicegraft graft CONFIG.yaml [key=value ...]
    voicegraft graft CONFIG.yaml --plan          # says what would be done, and stops

Prepares the recordings, finds out when each sound is said, tokenises them, trains the acoustic LM, the monitor, the speech
expert and the router, with ``listen`` also what hears, writes the pack, and evaluates it. The plan comes first. Every stage is
skipped when it is done and goes on where it was interrupted; what each cost is in ``work/cost.json``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from voicegraft.acoustic.acoustic_lm import AcousticLM
from voicegraft.core.artifacts import atomic_folder
from voicegraft.core.config import to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.hub import HUB, is_hub_name, resolve
from voicegraft.core.processes import is_main_process
from voicegraft.data.lexicon import read_dictionary
from voicegraft.data.manifest import read_manifest
from voicegraft.data.prepared import shard_folders
from voicegraft.encoders import speech_encoder as encoders
from voicegraft.encoders.hub_models import config_of
from voicegraft.export.card import pack_card
from voicegraft.fusion.backbone import check_backbone
from voicegraft.inference.pack import PACKS, PackHeader, read_header, weight_bytes, write_pack
from voicegraft.recipes.align import align, lender, teacher_folder, teacher_part
from voicegraft.recipes.command import commit, recipe_main
from voicegraft.recipes.evaluate_speech import EvaluateSpeechConfig, evaluate_speech
from voicegraft.recipes.fit_units import FitUnitsConfig, fit_units
from voicegraft.recipes.graft_config import GraftConfig
from voicegraft.recipes.graft_listening import check_listening, listening_stages
from voicegraft.recipes.graft_scale import Scale, parameters
from voicegraft.recipes.prepare import PrepareConfig, prepare
from voicegraft.recipes.say import say
from voicegraft.recipes.stages import Stage, costs, remember, run_stages, show_plan
from voicegraft.recipes.tokenize import TokenizeConfig, tokenize
from voicegraft.recipes.train_acoustic import train_acoustic
from voicegraft.recipes.train_codec import train_codec
from voicegraft.recipes.train_monitor import train_monitor
from voicegraft.recipes.train_router import train_router
from voicegraft.recipes.train_speech import train_speech
from voicegraft.recipes.train_vocoder import train_vocoder
from voicegraft.text.frontend import need_spelling, open_frontend, spoken_text
from voicegraft.tokenizers import codec_families
from voicegraft.tokenizers.hf_codec import HfCodec
from voicegraft.train.engine import main_first

# Hours of audio per hour on one core of the machine that the pocket pack was made on (docs/measured/graft.md).
PREPARE_SPEED, ALIGN_SPEED, POCKET_TOKENS_SPEED, SAY_SPEED = 200, 40, 60, 20
ENCODER_PARAMETERS = 95e6  # HuBERT-base and the like
FRAME_RATE = 50  # Hz, of tokens
# Keys of the parts' configurations that the graft's own overrule, or that may be otherwise on another machine.
RULED = ("work", "device", "backbone", "frontend", "precision")


def graft(config: GraftConfig) -> None:
    """Raises VoicegraftError: something is missing or was done otherwise before, or a stage was interrupted."""
    # What is missing is to show before hours are spent.
    need_spelling(config.frontend, config.speech.layout)
    check_backbone(resolve(config.backbone))
    if config.align.dictionary and config.speech.layout == "guided":
        read_dictionary(Path(config.align.dictionary))
    texts = {"align.text": config.align.text} if config.speech.layout == "guided" else {}
    texts |= {"notes": config.notes, **({"evaluate.prompts": config.evaluate.prompts} if config.evaluate else {})}
    for key, path in texts.items():
        if path and not Path(path).exists():
            raise VoicegraftError(f"expected text at {path} ({key}), found nothing; check the path")
    for teacher in (config.teacher, config.speech.teacher, config.say.teacher if config.say else ""):
        read_header(teacher_folder(teacher))
    if config.copy_parts is False and teacher_folder(config.teacher).parent != PACKS:
        raise VoicegraftError(
            f"copy_parts: false: {config.teacher} does not come with the package, so its parts must be copied"
        )
    if config.evaluate is not None and find_spec("pocketsphinx") is None:
        raise VoicegraftError(
            "the judges of evaluate are not installed: pip install voicegraft[evaluate], or leave evaluate out"
        )
    if config.semantic.encoder:
        config_of(config.semantic.encoder, encoders.WANTED, encoders.FAMILIES)
    if config.codec.model not in ("", "train"):
        config_of(config.codec.model, "codec", codec_families.FAMILIES)
    if config.listen is not None:
        check_listening(config.listen)
    walk(config, _stages)
    if not config.plan and is_main_process():
        print(f'now: voicegraft speak "Hello." --pack {config.out}')


def walk(config: GraftConfig, stages_of: Callable[[GraftConfig, Path], list[Stage]]) -> None:
    """Shows the plan and, unless only that is asked for, carries it out."""
    work = Path(config.work)
    with main_first():
        stages = stages_of(config, work)
        if is_main_process():
            remember(work, stages, config, _settings, writes=not config.plan)
            show_plan(config.name, work, stages)
    if config.plan:
        return
    run_stages(work, stages)
    if is_main_process():
        minutes = sum(entry["minutes"] for entry in costs(work).values())
        size = sum(weight_bytes(Path(config.out)).values()) / 1e6
        print(f"{config.out}: {size:.1f} MB of weights, {minutes:.0f} minutes")


def _stages(config: GraftConfig, work: Path) -> list[Stage]:
    scale, guided, encoder = Scale.of(config, work), config.speech.layout == "guided", config.semantic.encoder
    fitting = 2 * ENCODER_PARAMETERS * FRAME_RATE * 8 * 32 * config.semantic.steps  # clips of 8 s, 32 a step
    prepares = Stage(
        "prepare",
        lambda: _prepare(config, work),
        "decode, check and level the recordings",
        result="speech",
        depends=("corpora", "corpus"),
        minutes=60 * scale.hours / PREPARE_SPEED / config.workers,
        megabytes=scale.hours * 3600 * config.corpus.sample_rate * 2 / 1e6,
    )
    aligns = Stage(
        "align",
        lambda: align(replace(config.align, work=str(work), teacher=config.align.teacher or config.teacher)),
        "time each sound",
        result="alignments/round0/done",
        depends=("align", "teacher"),
        minutes=60 * scale.hours / ALIGN_SPEED,
    )
    units = Stage(
        "semantic",
        lambda: _semantic(config, work),
        "the semantic tokenizer",
        depends=("semantic", "teacher"),
        minutes=scale.minutes(fitting) if encoder else 0.0,
    )
    reads = Stage("sentences", lambda: _sentences(config, work), "texts for the router", result="sentences.txt")
    made_up = config.router and replace(  # a graft has no corpora of other questions
        config.router, questions=replace(config.router.questions, dialogue=0, trivia=0, yes_or_no=0)
    )
    gathers = Stage(
        "pack",
        lambda: _pack(config, work),
        "gather the parts",
        result=str(Path(config.out).absolute()),
        minutes=0.1,
        megabytes=(2 * scale.parameters if config.copy_backbone is not False else 0) / 1e6 + 30,
        always=True,
    )
    measures = Stage("evaluation", lambda: _evaluate(config, work), "measure the pack", result="evaluation/report.md")
    return [
        prepares,
        *([aligns] if guided else []),
        units,
        *([reads] if config.router and not guided else []),  # else the alignment writes them
        *model_stages(replace(config, router=made_up), work, scale),
        *(listening_stages(config, config.listen, work, scale) if config.listen else []),
        gathers,
        *([measures] if config.evaluate else []),
    ]


def model_stages(config: GraftConfig, work: Path, scale: Scale) -> list[Stage]:
    """From speech, its alignment and a semantic tokenizer to the trained parts, for a graft as for the pocket pack."""
    here: dict[str, Any] = {"work": str(work), "device": config.device}  # of every recipe that trains
    backbone = {"backbone": str(config.backbone), "frontend": config.frontend}
    trains_codec, router, tokens_at = config.codec.model == "train", config.router, 60 / POCKET_TOKENS_SPEED
    if config.semantic.encoder:
        tokens_at = scale.minutes(2 * ENCODER_PARAMETERS * FRAME_RATE * 3600) / 2  # minutes an hour of audio
    speech, lora = config.speech, 0.02 * scale.lower(config.speech.num_layers) * config.speech.lora.rank / 16
    positions = speech.batch_positions * sum(one.loop.steps for one in speech.rounds)

    def train(
        name: str, recipe: Callable[[Any], object], settings: Any, about: str, *depends: str, **told: Any
    ) -> Stage:
        """``told``: the estimates, and values of the recipe's configuration."""
        estimates = {key: told.pop(key, None) for key in ("minutes", "megabytes")}
        return Stage(
            name, lambda: recipe(replace(settings, **here, **told)), about, depends=depends, together=True, **estimates
        )

    makes_codec = Stage("codec", lambda: _codec(config, work), "the acoustic tokenizer", depends=("codec", "teacher"))
    # Codec tokens are for the acoustic LM alone.
    kinds: tuple[Literal["semantic", "codec"], ...] = ("semantic", "codec") if config.acoustic else ("semantic",)
    stages = [
        train("codec", train_codec, config.codec.codec, "train the acoustic tokenizer", "codec")
        if trains_codec
        else makes_codec,
        Stage(
            "tokens",
            lambda: tokenize(TokenizeConfig(str(work), kinds, workers=config.workers, device=config.device)),
            "tokenise the recordings",
            minutes=len(kinds) * scale.hours * tokens_at / config.workers,
            megabytes=scale.hours * 3600 * FRAME_RATE * 2 * 9 / 1e6,
        ),
    ]
    if trains_codec:
        stages.append(train("vocoder", train_vocoder, config.codec.vocoder, "train the vocoder", "codec"))
    monitor, acoustic = config.monitor, config.acoustic
    if speech.layout == "guided" and monitor is not None:
        watching = scale.minutes(6 * 2e5 * monitor.batch_size * monitor.loop.steps)
        about = "train what watches speech"
        stages.append(train("monitor", train_monitor, monitor, about, "monitor", minutes=watching))
    if acoustic is None:
        stages.append(
            Stage(
                "acoustic",
                lambda: _teachers(config, work),
                "the teacher's acoustic LM",
                depends=("acoustic", "teacher"),
            )
        )
    else:
        size = parameters(lambda: AcousticLM(acoustic.model))
        crops = acoustic.batch_size * acoustic.crop_frames * sum(r.steps for r in acoustic.rounds)
        stages.append(
            train(
                "acoustic",
                train_acoustic,
                acoustic,
                "train the acoustic LM",
                "acoustic",
                minutes=scale.minutes(6 * size * crops),
                megabytes=size * 13 / 1e6,  # the weights, and a checkpoint with two moments in float32
            )
        )
    if (says := config.say) is not None:
        stages.append(
            Stage(
                "said",
                lambda: say(replace(says, work=str(work), teacher=says.teacher or config.teacher)),
                "what the teacher says",
                depends=("say", "teacher"),
                minutes=60 * says.hours / SAY_SPEED,
            )
        )
    stages += [
        train(
            "expert",
            train_speech,
            speech,
            "train the speech expert",
            *("backbone", "frontend", "speech"),
            minutes=scale.minutes(positions * (4 * scale.lower(speech.num_layers) + 6 * lora)),
            megabytes=lora * 14 / 1e6,
            **backbone,
        ),
    ]
    if router is not None:
        routing = (
            scale.minutes(router.loop.steps * 2 * router.batch_positions * 4 * scale.parameters) * router.next_token
        )
        depends = ("backbone", "frontend", "router")
        stages.append(train("router", train_router, router, "train the router", *depends, minutes=routing, **backbone))
    return stages


def _settings(config: GraftConfig) -> dict[str, Any]:
    """What of a configuration makes a difference to what comes out."""

    def own(part: Any) -> Any:
        return {key: own(value) for key, value in part.items() if key not in RULED} if isinstance(part, dict) else part

    return {key: own(value) for key, value in to_dict(config).items()}


def _prepare(config: GraftConfig, work: Path) -> None:
    features = config.codec.model == "train"
    prepare(PrepareConfig(config.corpora, work, num_workers=config.workers, features=features, **vars(config.corpus)))


def _semantic(config: GraftConfig, work: Path) -> None:
    c = config.semantic
    if c.encoder:
        fit_units(FitUnitsConfig(c.encoder, c.layer, str(work), c.vocab_size, steps=c.steps, device=config.device))
    else:
        _copy(teacher_part(config.teacher, "semantic"), work / "semantic")


def _codec(config: GraftConfig, work: Path) -> None:
    c = config.codec
    if c.model:
        HfCodec.from_model(c.model, c.num_codebooks).save(work / "codec", {"model": c.model})
    else:
        for name in ("vocoder", "codec"):
            if (
                part := teacher_part(config.teacher, name)
            ).is_dir():  # a codec of another family has no vocoder beside it
                _copy(part, work / name)


def _teachers(config: GraftConfig, work: Path) -> None:
    """The acoustic LM, and what goes with it."""
    for name in ("acoustic", "voice", *(["monitor"] if config.monitor is None else [])):
        if (part := teacher_part(config.teacher, name)).is_dir():
            _copy(part, work / name)


def _sentences(config: GraftConfig, work: Path) -> None:
    """What the recordings say, where no alignment has written it."""
    path = work / "sentences.txt"
    if not path.is_file():
        frontend = open_frontend(config.frontend)
        rows = (row for folder in shard_folders(work) for row in read_manifest(folder) if row.split == "train")
        write_text(path, "\n".join(filter(None, (spoken_text(frontend, row.text) for row in rows))))


def _pack(config: GraftConfig, work: Path) -> None:
    folder = resolve(config.backbone)
    local = Path(config.backbone).exists()
    copied = local if config.copy_backbone is None else config.copy_backbone
    if copied and folder.is_file():
        with atomic_folder(work / "backbone", folder.name) as draft:
            shutil.copy(folder, draft)
    elif copied:
        _copy(folder, work / "backbone", "config.json")
    named = config.backbone if is_hub_name(config.backbone) else HUB + config.backbone
    named = "backbone" if copied else named
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
        shares=lender(config.teacher) if config.copy_parts is False else "",
        provenance=provenance,
    )
    write_pack(Path(config.out), work, header, _card(config, work, header))
    _tell_scores(config, work, header)


def _card(config: GraftConfig, work: Path, header: PackHeader) -> str:
    notes = Path(config.notes).read_text(encoding="utf-8") if config.notes else ""
    return pack_card(header, work, licence=config.licence, language=config.language, notes=notes)


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


main = recipe_main(graft, __doc__, prog="voicegraft graft")


if __name__ == "__main__":
    main()
