"""Raw data -> the evaluated pocket pack, in one command: a graft whose speech, backbone and tokenizers are made here too.

    python -m pocket.build data=DATA work=runs/pocket out=voicegraft/packs/pocket
    python -m pocket.build data=DATA --plan    # says what would be done, and stops

Every stage is skipped when its result is there, and goes on from its last checkpoint when it was interrupted. The cost of
each stage goes to ``work/cost.json``. The pack's card gets the scores that the evaluation just measured.
flite (a Debian package) and Kokoro (``voicegraft parts get kokoro``) must be there.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from pocket.prepare import PreparePocketConfig, prepare_pocket
from pocket.speech import SPEAKERS, SpeechConfig, make_readings, prepare_speakers, prepare_speech, write_held_back
from pocket.train_backbone import BackboneConfig, train_backbone
from pocket.voices import keep_voices
from voicegraft.core.config import load_config
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.runtime import single_thread
from voicegraft.data.prepared import PreparedSpeech
from voicegraft.export.card import pack_card
from voicegraft.inference.pack import PARTS, PackHeader, read_header, write_pack
from voicegraft.inference.sampling import Sampling
from voicegraft.inference.sentence import SpeakOptions
from voicegraft.recipes.align import AlignConfig, align
from voicegraft.recipes.command import CONFIGS, commit, recipe_config
from voicegraft.recipes.evaluate_forgetting import EvaluateForgettingConfig, evaluate_forgetting
from voicegraft.recipes.evaluate_speech import EvaluateSpeechConfig, evaluate_speech
from voicegraft.recipes.graft import model_stages, walk
from voicegraft.recipes.graft_config import CodecChoice, GraftConfig
from voicegraft.recipes.graft_scale import Scale, measured_speed
from voicegraft.recipes.stages import Stage, costs
from voicegraft.recipes.train_acoustic import TrainAcousticConfig
from voicegraft.recipes.train_codec import TrainCodecConfig
from voicegraft.recipes.train_monitor import TrainMonitorConfig
from voicegraft.recipes.train_router import TrainRouterConfig
from voicegraft.recipes.train_semantic import TrainSemanticConfig, train_semantic
from voicegraft.recipes.train_speech import TrainSpeechConfig
from voicegraft.recipes.train_vocoder import TrainVocoderConfig

HOURS, PARAMETERS = 6.5, 4.7e6  # of speech, and of the backbone: both are made on the way
T = TypeVar("T")


@dataclass(frozen=True)
class PocketConfig:
    data: str = "data"  # folder with the raw corpora (docs/data.md)
    work: str = "runs/pocket"  # receives everything in between
    out: str = "voicegraft/packs/pocket"  # the pack
    plan: bool = False  # only says what would be done (--plan)
    speech: SpeechConfig = field(default_factory=SpeechConfig)
    voices: dict[str, str] = field(  # speaker -> what the voice is called; the others teach, but do not ship
        default_factory=lambda: {
            "af_heart": "heart",
            "am_michael": "michael",
            "bf_isabella": "isabella",
            "kathleen": "kathleen",
            "LJ": "LJ",
        }
    )
    default_voice: str = "heart"
    options: SpeakOptions = field(default_factory=lambda: SpeakOptions(Sampling(0.2, 0.5), pace=-1.4))
    prompts: str = "prompts/harvard_001-360.txt"  # evaluation prompts, inside data
    num_prompts: int = 100
    evaluate: bool = True  # needs the extra "evaluate"


def main(argv: Sequence[str] | None = None) -> None:
    single_thread()
    pocket(recipe_config(PocketConfig, __doc__, argv))


def pocket(config: PocketConfig) -> None:
    """Raises VoicegraftError: a stage was interrupted or done otherwise before, or the pack forgets."""
    walk(as_graft(config), partial(_stages, config))


def as_graft(config: PocketConfig) -> GraftConfig:
    """The pocket pack as a graft: its parts are configured by the files in ``configs/pocket``."""
    return GraftConfig(
        backbone=str(Path(config.work) / "backbone"),
        corpora=(),
        plan=config.plan,
        work=config.work,
        out=config.out,
        name="pocket",
        default_voice=config.default_voice,
        codec=CodecChoice(
            "train", codec=_read(TrainCodecConfig, "codec"), vocoder=_read(TrainVocoderConfig, "vocoder")
        ),
        monitor=_read(TrainMonitorConfig, "monitor"),
        acoustic=_read(TrainAcousticConfig, "acoustic"),
        speech=_read(TrainSpeechConfig, "speech"),
        router=_read(TrainRouterConfig, "router"),
        options=config.options,
    )


def _read(cls: type[T], name: str, *overrides: str) -> T:
    return load_config(cls, CONFIGS / "pocket" / f"{name}.yaml", overrides)


def _stages(config: PocketConfig, graft: GraftConfig, work: Path) -> list[Stage]:
    made, data, speech = f"work={work}", f"data={config.data}", config.speech

    def words() -> None:
        prepare_pocket(_read(PreparePocketConfig, "prepare_pocket", made, data))

    def trains_backbone() -> None:
        train_backbone(_read(BackboneConfig, "backbone", made, data))

    def trains_units() -> None:
        aligned = f"aligned={work / 'alignments' / 'round0'}"
        train_semantic(_read(TrainSemanticConfig, "semantic", made, aligned))

    out = str(Path(config.out).absolute())
    stages = [
        Stage("words", words, "sentences, how words are pronounced", result="lexicon.json", minutes=5),
        Stage("backbone", trains_backbone, "train the text LLM", together=True, minutes=49),
        Stage("readings", lambda: make_readings(speech, work), "Kokoro reads sentences", minutes=70),
        Stage("speech", lambda: prepare_speech(speech, Path(config.data), work), "prepare the speech", minutes=3),
        Stage(
            "align",
            lambda: align(AlignConfig(str(work))),
            "time each sound",
            result="alignments/round0/done",
            minutes=8,
        ),
        # After the alignment, which would time these too.
        Stage(
            "speakers",
            lambda: prepare_speakers(speech, Path(config.data), work),
            "prepare many speakers",
            result="held-out",
            minutes=2,
        ),
        Stage("semantic", trains_units, "train the semantic tokenizer", together=True, minutes=215),
        *model_stages(graft, work, Scale(HOURS, PARAMETERS, measured_speed(graft.device))),
        Stage("pack", lambda: _pack(config, work), "gather the parts", result=out, always=True),
    ]
    if config.evaluate:
        measures = partial(_evaluate, config, work)
        stages.append(Stage("evaluation", measures, "measure the pack", result="shipped/evaluation", always=True))
    return stages


def _pack(config: PocketConfig, work: Path) -> None:
    """Writes the pack from a copy of the parts in ``shipped/``, where the voices that do not ship are taken out."""
    header = PackHeader(
        "pocket",
        default_voice=config.default_voice,
        options=config.options,
        provenance={
            "recipe": "pocket",
            **commit(),
            "backbone": "a model of 4.7 M parameters, in this folder",
            "corpora": [*config.speech.recordings, *config.speech.readings, SPEAKERS],
            "minutes": {name: entry["minutes"] for name, entry in costs(work).items()},
        },
    )
    shipped = work / "shipped"
    for part in PARTS:
        shutil.rmtree(shipped / part, ignore_errors=True)
        if (work / part).is_dir():  # what must be there is asked for when the pack is written
            shutil.copytree(work / part, shipped / part, ignore=shutil.ignore_patterns("resume", "log"))
    keep_voices(shipped, config.voices)
    write_pack(Path(config.out), shipped, header, card(header, shipped))


def _evaluate(config: PocketConfig, work: Path) -> None:
    data, out, shipped = Path(config.data), Path(config.out), work / "shipped"
    spoken = PreparedSpeech(work, (*config.speech.recordings, *config.speech.readings))
    write_held_back(spoken, config.voices, work / "held-back")
    evaluate_speech(
        EvaluateSpeechConfig(
            out=shipped / "evaluation",
            prompts=data / config.prompts,
            pack=out,
            recordings=(work / "held-back",),
            limit=config.num_prompts,
        )
    )
    shutil.copy(shipped / "evaluation" / "report.md", out / "EVALUATION.md")
    kept = evaluate_forgetting(EvaluateForgettingConfig(out=work / "forgetting", data=data, work=work, pack=out))
    lines = (work / "forgetting" / "report.md").read_text(encoding="utf-8").splitlines()
    write_text(out / "FORGETTING.md", "\n".join(line for line in lines if not line.startswith("![")))
    if not kept.passed:
        raise VoicegraftError(f"the pack in {out} forgets: its retention is {kept.retention}; see its FORGETTING.md")
    write_text(out / "CARD.md", card(read_header(out), shipped))


def card(header: PackHeader, shipped: Path) -> str:
    """The pack's card, with what no file says: its data and licences, and its limits."""
    notes = (CONFIGS / "pocket" / "CARD.md").read_text(encoding="utf-8")
    return pack_card(header, shipped, licence="apache-2.0", language=("en",), notes=notes)


if __name__ == "__main__":
    main()
