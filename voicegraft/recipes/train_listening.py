"""Trains a text LLM to hear: the connector alone (MTBI), or a LoRA with it, and the encoder (VoiceTextBlender).

    voicegraft recipe train_listening mtbi/kl work=runs/mine
    voicegraft recipe train_listening mtbi/kl work=runs/mine out=plain interleaving.share=0
    voicegraft recipe train_listening voicetextblender/gated work=runs/mine

The LLM learns to answer speech as it answers its transcript: rows of ``recipe imitate``, of ``recipe mix_modalities``, and
recognition. The LLM's own weights stay: their hash before and after is printed. Writes a listening pack, ``work/OUT``; stop it
at any time, the same command goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from voicegraft.audio.io import resampled
from voicegraft.core.config import to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.hub import is_hub_name
from voicegraft.core.runtime import pick_device
from voicegraft.data.features import HeardSpeech
from voicegraft.data.listening_sequences import Interleaving, ListeningSequence, Portion
from voicegraft.data.listening_tasks import HEARD, REPEAT, load_tasks
from voicegraft.data.prepared import Clip, PreparedSpeech
from voicegraft.data.responses import Response, Tokens, read_responses, written
from voicegraft.data.splits import hash_share, text_key
from voicegraft.encoders.listening import Ears, EncoderSettings
from voicegraft.evaluation.speech.reserved import TEST_VOICES
from voicegraft.fusion.backbone import BackboneSettings, backbone_fingerprint, load_backbone
from voicegraft.fusion.connectors.base import (
    Connector,
    ConnectorConfig,
    embedding_rows,
    new_connector,
    open_connector,
)
from voicegraft.fusion.experts import LISTENING, LoraSettings
from voicegraft.fusion.listening import HEADER, ListeningHeader, known_as
from voicegraft.fusion.listening_training import ENCODER, ListeningBatch, ListeningTraining, Piece
from voicegraft.recipes.command import commit, recipe_main
from voicegraft.train.config import LoopConfig
from voicegraft.train.engine import launched_sharded, save_once
from voicegraft.train.loop import run

_RATE = 50.0  # frames per second, about; for batches of like length


@dataclass(frozen=True)
class PortionConfig:
    weight: float = 1.0  # share of the batches, among the portions of its modality
    responses: str = ""  # folder of rows; relative to work; empty: recognition, whose answer is the transcript
    tasks: tuple[str, ...] = ()  # of the rows; empty: all


@dataclass(frozen=True)
class TrainListeningConfig:
    work: str = "runs/mine"  # the work folder, with features of its speech (recipe encode)
    backbone: str = ""  # folder of a causal LM, or its name on the Hub; empty: work/backbone
    loading: BackboneSettings = field(default_factory=BackboneSettings)
    connector: str = "connector"  # folder of the connector to begin with; relative to work
    new: str = ""  # begins with a fresh connector instead: stack, convolution, conformer, qformer, states
    shape: dict[str, Any] = field(default_factory=dict)  # settings of the fresh one, where they are not the usual
    begin: str = ""  # what an earlier run of this recipe wrote, to go on from; relative to work
    out: str = "listening"  # folder in work
    train_encoder: bool = False  # reads the recordings then, not the features
    encoder: EncoderSettings = field(default_factory=EncoderSettings)  # where it is trained
    lora: LoraSettings | None = None  # the listening expert; nothing: the LLM is as it is
    blend: dict[str, PortionConfig] = field(default_factory=lambda: {"imitation": PortionConfig(responses="imitation")})
    speech_share: float = (
        1.0  # of the batches; the others are text alone, which only a LoRA that always acts learns from
    )
    loss: Literal["kl", "cross_entropy"] = "kl"  # kl: where alternatives to the tokens are known, else cross-entropy
    interleaving: Interleaving = field(default_factory=Interleaving)
    transcript_beside: bool = False  # a transcript stands as text behind the vectors (DeSTA2)
    transcripts: str = (
        ""  # name of features of a recogniser's decoder that wrote it; empty: features, else the true one
    )
    features: str = ""  # which of the work folder, by the name of their folder; empty: the only ones
    held_speakers: tuple[str, ...] = ()  # more speakers than the tests' that are not trained on
    batch_positions: int = 1024
    held_back: int = 64  # rows that are validated on, at most, of those held back
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=2000, lr=3e-4, warmup_steps=50))
    device: str = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.speech_share <= 1:
            raise ValueError(f"expected a speech_share above 0, at most 1, got {self.speech_share:g}")
        if self.speech_share < 1 and self.lora is None:
            raise ValueError("without a lora nothing learns from text alone: set speech_share to 1")
        if self.transcript_beside and self.interleaving.share:
            raise ValueError("beside its transcript speech is not interleaved: set interleaving.share to 0")
        if not any(portion.weight > 0 for portion in self.blend.values()):
            raise ValueError("expected a blend with a weight above 0")


def train_listening(config: TrainListeningConfig) -> None:
    work, device = Path(config.work), pick_device(config.device)
    backbone, tokenizer = load_backbone(config.backbone or work / "backbone", config.loading)
    start = work / config.begin if config.begin else None
    ears = Ears(config.encoder, trainable=True) if config.train_encoder else None
    torch.manual_seed(0)
    connector = _connector(config, start, ears, backbone)
    model = ListeningTraining(backbone, tokenizer, connector, config.lora, ears, config.loss == "kl")
    if connector.NEEDS_EARS:
        connector.attach_ears(Ears(HeardSpeech(work, config.features).header.encoder))
    if start is not None and (start / LISTENING).is_dir() and config.lora is not None:
        model.take(start / LISTENING)
    material = Material(config, model)
    model.to(device)
    before = {} if launched_sharded() else model.frozen()
    for name, digest in before.items():
        print(f"{config.out}: {name} {digest} before")

    trained = run(
        config.loop,
        work / f"{config.out}-training",
        {"listening": model},
        material,
        validate=lambda _: material.validate(model),
    )
    for name, digest in ({} if launched_sharded() else model.frozen()).items():
        print(f"{config.out}: {name} {digest} after")
        if digest != before[name]:
            raise VoicegraftError(
                f"{config.out}: the {name} was changed by its training, which must not be; nothing is saved"
            )
    if trained:
        provenance = {"recipe": "train_listening", "config": to_dict(config), **commit(), **before}
        save_once(model, lambda folder: _save(config, model, material, folder, provenance), work / config.out)


def _save(
    config: TrainListeningConfig,
    model: ListeningTraining,
    material: Material,
    folder: Path,
    provenance: dict[str, object],
) -> None:
    """A listening pack."""
    model.save(folder, provenance)
    encoder = config.encoder if material.features is None else material.features.header.encoder
    name = ENCODER if model.ears is not None else known_as(encoder.model)
    header = ListeningHeader(
        config.out,
        backbone=config.backbone if is_hub_name(config.backbone) else "",
        encoder=replace(encoder, model=name),
        mode="beside" if config.transcript_beside else "pure",
        provenance=provenance,
    )
    write_text(folder / HEADER, json.dumps(to_dict(header), indent=2))


def _connector(
    config: TrainListeningConfig, start: Path | None, ears: Ears | None, backbone: PreTrainedModel
) -> Connector:
    """To begin with: of an earlier run, of a folder, or fresh."""
    work = Path(config.work)
    heard = ears or HeardSpeech(work, config.features).header
    width, encoder = heard.width, heard.fingerprint
    if not config.new or start:
        connector = open_connector(start / "connector" if start else work / config.connector)
        connector.check_encoder(width, encoder)
        return connector
    own = embedding_rows(backbone).shape[1]
    return new_connector(config.new, config.shape, ConnectorConfig(width, own, encoder, backbone_fingerprint(backbone)))


class Material:
    """Batch number -> sequences of one portion, of one modality."""

    def __init__(self, config: TrainListeningConfig, model: ListeningTraining):
        work = Path(config.work)
        self.config = config
        self.ears = model.ears
        # An encoder that learns hears the recordings; words that stand as text need their times.
        needs = self.ears is None or config.interleaving.share > 0
        self.features = HeardSpeech(work, config.features) if needs else None
        self.speech = PreparedSpeech(work) if self.features is None else self.features
        self.recognised = self.features
        if config.transcripts:
            self.recognised = HeardSpeech(work, config.transcripts)
        if config.interleaving.share and self.features and self.features.header.encoder.reads == "decoder":
            raise VoicegraftError("states of a recogniser's decoder have no times: set interleaving.share to 0")
        taken = {*TEST_VOICES, *config.held_speakers}
        clips: dict[bool, dict[str, list[Clip]]] = {False: {}, True: {}}  # held back -> text -> who says it
        for clip in self.speech.clips:
            if clip.utterance.speaker not in taken:
                own = clips[clip.utterance.split != "train"]
                own.setdefault(text_key(clip.utterance.text), []).append(clip)
        self.portions: dict[bool, list[tuple[Portion, float]]] = {False: [], True: []}  # has speech -> portions
        self.held: list[Portion] = []
        transcript_of = self._transcript if config.transcript_beside else None
        for name, portion in config.blend.items():
            if not portion.weight:
                continue
            rows = _rows(portion, work, clips, model)
            found = 0
            for speech in (True, False):
                for held in (False, True):
                    kind = [r for r in rows if (HEARD in r[0].wording) == speech and (r[0].split != "train") == held]
                    kind = kind[: config.held_back] if held else kind
                    made = Portion(kind, clips[held], model.tokenizer, config.batch_positions, _RATE, transcript_of)
                    if len(made) and held:
                        self.held.append(made)
                    elif len(made):
                        self.portions[speech].append((made, portion.weight))
                        found += len(made)
            print(f"{config.out}: {name}: {found} rows to learn from")
            if not found:
                raise VoicegraftError(
                    f"{name}: no row has a transcript that somebody says in {work}: check blend.{name}"
                )
        for speech, share in ((True, config.speech_share), (False, 1 - config.speech_share)):
            if share and not self.portions[speech]:
                raise VoicegraftError(
                    f"no rows of {'speech' if speech else 'text alone'} for speech_share {config.speech_share:g}"
                )

    def __call__(self, number: int) -> ListeningBatch:
        loop = self.config.loop
        draw = np.random.default_rng([loop.seed, number])
        portions = self.portions[bool(draw.random() < self.config.speech_share)]
        weights = np.asarray([weight for _, weight in portions])
        portion = portions[int(draw.choice(len(portions), p=weights / weights.sum()))][0]
        progress = number / max(1, loop.steps * loop.batches_per_step - 1)
        tokens_of = self.features.alignment if self.features else None
        sequences = [
            portion.sequence(row, draw, self.config.interleaving, progress, tokens_of)
            for row in portion.draw(number, loop.seed)
        ]
        return self.batch(sequences)

    def batch(self, sequences: Sequence[ListeningSequence]) -> ListeningBatch:
        cuts = [cut for sequence in sequences for cut in sequence.cuts]
        clips = {(cut.clip.folder, cut.clip.row): cut.clip for cut in cuts}
        sounds = {place: self._sound(clip) for place, clip in clips.items()}
        pieces = [Piece(sounds[cut.clip.folder, cut.clip.row], cut.begin, cut.end) for cut in cuts]
        width = max((s.tokens.top_ids.shape[1] for s in sequences if s.tokens.top_ids is not None), default=0)
        ids = [_padded(s.tokens.top_ids, len(s.tokens.ids), width, -1) for s in sequences]
        logprobs = [_padded(s.tokens.top_logprobs, len(s.tokens.ids), width, -np.inf) for s in sequences]
        return ListeningBatch([s.item for s in sequences], pieces, torch.cat(ids), torch.cat(logprobs))

    def _transcript(self, clip: Clip) -> str:
        """As the recogniser heard it, where it was asked; else the true one."""
        heard = self.recognised.transcript(clip) if self.recognised else None
        return clip.utterance.text if heard is None else heard

    def _sound(self, clip: Clip) -> Tensor:
        if self.ears is None:
            assert self.features is not None
            return torch.from_numpy(np.array(self.features.frames(clip)))
        samples = self.speech.samples(clip)
        return torch.from_numpy(resampled(samples, self.speech.rate(clip), self.ears.sample_rate))

    def validate(self, model: ListeningTraining) -> dict[str, float]:
        """Means over the rows held back, each in one voice, without interleaving."""
        found: dict[str, list[float]] = {}
        for portion in self.held:
            for row in range(len(portion)):
                draw = np.random.default_rng(row)
                metrics = model(self.batch([portion.sequence(row, draw, Interleaving(), 1.0, None)]))[1]
                for name, value in metrics.items():
                    found.setdefault(name, []).append(float(value))
        return {name: float(np.mean(values)) for name, values in found.items()}


def _rows(
    portion: PortionConfig, work: Path, clips: Mapping[bool, Mapping[str, Sequence[Clip]]], model: ListeningTraining
) -> list[tuple[Response, Tokens]]:
    if portion.responses:
        rows = read_responses(work / portion.responses)
        chosen = [(row, tokens) for row, tokens in rows if not portion.tasks or row.task in portion.tasks]
        return [(row, tokens if len(tokens.ids) else written(model.tokenizer, row.reply)) for row, tokens in chosen]
    wordings = load_tasks(names=[REPEAT])[REPEAT].trained
    found = []
    for said in (said for side in clips.values() for said in side.values()):
        utterance = said[0].utterance
        wording = wordings[int(hash_share(f"{REPEAT} {utterance.text}") * len(wordings))]
        row = Response(REPEAT, wording, utterance.text, utterance.text, utterance.split)
        found.append((row, written(model.tokenizer, row.reply)))
    return found


def _padded(values: np.ndarray | None, length: int, width: int, fill: float) -> Tensor:
    """``[length, width]``; nothing but ``fill`` where there are no values."""
    if values is None:
        return torch.full((length, width), fill)
    return torch.nn.functional.pad(torch.from_numpy(values), (0, width - values.shape[1]), value=fill)


main = recipe_main(train_listening, __doc__)


if __name__ == "__main__":
    main()
