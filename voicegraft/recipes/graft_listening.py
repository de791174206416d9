"""The stages of a graft that make it hear: a soft transcript; or features, a connector that reads, the LLM's own answers, and
learning from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from voicegraft.core.artifacts import atomic_folder
from voicegraft.core.errors import VoicegraftError
from voicegraft.encoders.listening import model_folder
from voicegraft.fusion.backbone import load_backbone
from voicegraft.fusion.listening import HEADER
from voicegraft.fusion.soft_transcript import write_soft_pack
from voicegraft.recipes.command import commit
from voicegraft.recipes.encode import EncodeConfig, encode
from voicegraft.recipes.graft_config import GraftConfig, ListenChoice
from voicegraft.recipes.graft_scale import Scale
from voicegraft.recipes.imitate import imitate
from voicegraft.recipes.stages import Stage
from voicegraft.recipes.train_connector import train_connector
from voicegraft.recipes.train_listening import train_listening

# On one core of the machine that the shipped packs were made on (docs/hearing.md).
ENCODE_SPEED = 8  # hours of audio an hour
CONNECTOR_SPEED = 3200  # the encoder's frames a second that a connector learns from
PROMPT = 64  # tokens of an instruction with what was said, and the answer
IMITATION = "imitation"  # folder of the LLM's own answers


def listening_stages(config: GraftConfig, listen: ListenChoice, work: Path, scale: Scale) -> list[Stage]:
    """Behind ``prepare``; they leave a listening pack, ``work/listening``."""
    if listen.soft:
        return [
            Stage(
                "listening",
                lambda: _soft(config, listen, work / "listening"),
                "let it hear a soft transcript",
                depends=("backbone", "listen"),
                minutes=0.2,
            )
        ]
    here: dict[str, Any] = {"work": str(work), "device": config.device, "backbone": str(config.backbone)}
    steps, asks, trains = listen.connector.loop.steps, listen.imitate, listen.train
    frames = listen.connector.batch_frames * steps

    def stage(name: str, recipe: Callable[[Any], object], settings: Any, about: str, **more: Any) -> Stage:
        return Stage(name, lambda: recipe(replace(settings, **here)), about, depends=("backbone", "listen"), **more)

    encoding: EncodeConfig = replace(listen.encode, workers=config.workers)
    stages = [
        stage(
            "features", encode, encoding, "what the encoder hears",
            minutes=60 * scale.hours / ENCODE_SPEED / config.workers, megabytes=scale.hours * 3600 * 50 * 1024 / 1e6,
        ),
        stage(
            "connector", train_connector, listen.connector, "train a connector to read",
            minutes=frames / CONNECTOR_SPEED / 60, together=True,
        ),
    ]  # fmt: skip
    if asks is not None:
        rows = asks.limit or scale.hours * 3600 / 4  # clips of about 4 s
        operations = 2 * scale.parameters * PROMPT * rows
        stages.append(
            stage(IMITATION, imitate, asks, "what the LLM answers in writing", minutes=scale.minutes(operations))
        )
    operations = 4 * scale.parameters * trains.batch_positions * trains.loop.steps
    hears = stage(
        "listening",
        train_listening,
        trains,
        "train it to answer speech",
        minutes=scale.minutes(operations),
        together=True,
    )
    return [*stages, hears]


def _soft(config: GraftConfig, listen: ListenChoice, folder: Path) -> None:
    backbone, _ = load_backbone(config.backbone)
    with atomic_folder(folder, marker=HEADER) as draft:
        write_soft_pack(
            draft, backbone, listen.encode.encoder.model, str(config.backbone), {"recipe": "graft", **commit()}
        )


def check_listening(listen: ListenChoice) -> None:
    """Raises VoicegraftError: an encoder is not there, or nothing makes what is to be learnt."""
    if listen.soft:
        model_folder(listen.encode.encoder.model)
        return
    if listen.imitate is None and any(portion.responses == IMITATION for portion in listen.train.blend.values()):
        raise VoicegraftError(
            "listen.train learns from the LLM's answers, which listen.imitate: null leaves out; set listen.train.blend to "
            "{recognition: {}}, or leave listen.imitate as it is"
        )
    for model in (listen.encode.encoder.model, listen.encode.aligner):
        model_folder(model)
