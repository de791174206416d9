"""Speech -> features of a listening encoder and the times of the text's tokens, once, for all trainings that listen.

    voicegraft recipe encode work=runs/listen
    voicegraft recipe encode work=runs/listen encoder.model=microsoft/wavlm-large encoder.layer=18 workers=8
    voicegraft recipe encode work=runs/listen encoder.reads=decoder

Writes ``features/<key>/<shard>`` in the work folder; the key is of the encoder, its settings, the backbone's tokenizer and the
aligner, so features of several kinds lie beside one another. Shards that are there are kept, so the same command goes on after
any interruption.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from voicegraft.audio.io import resampled
from voicegraft.core.parts import JUDGE
from voicegraft.core.runtime import pick_device, single_thread
from voicegraft.data.features import ABOUT, FOLDER, Encoded, FeaturesHeader, check_fits, write_features
from voicegraft.data.manifest import read_manifest
from voicegraft.data.prepared import pcm_rate
from voicegraft.data.shards import RaggedArray
from voicegraft.data.token_times import TokenAligner
from voicegraft.encoders.listening import Ears, EncoderSettings, Features
from voicegraft.fusion.backbone import load_tokenizer, tokenizer_fingerprint
from voicegraft.recipes.command import recipe_main
from voicegraft.recipes.tokenize import shard_hours, shard_names
from voicegraft.recipes.tokenize_processes import in_processes, in_this_process, with_progress


@dataclass(frozen=True)
class EncodeConfig:
    work: str = "runs/listen"  # the work folder
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    backbone: str = "part:smollm2"  # whose tokens are timed: a folder, part:NAME or a name on the Hub
    aligner: str = JUDGE  # the Whisper that times them, named as the encoder is
    shards: tuple[str, ...] = ()  # beginnings of the names of those that are encoded; empty: all
    workers: int = 1  # processes; each computes on one thread
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"expected at least one worker, got {self.workers}")


def encode(config: EncodeConfig) -> None:
    """Encodes what is not yet there.

    Raises:
        VoicegraftError: no speech, no such encoder, aligner or backbone, or workers that keep dying.
    """
    work = Path(config.work)
    names = [name for name in shard_names(work, "semantic") if name.startswith(config.shards or "")]
    hours = {name: shard_hours(work, name) for name in names}
    worker = ShardWorker(config)
    folder = worker.open().folder
    left = sorted((name for name in names if not _is_done(work, folder, name)), key=lambda name: -hours[name])
    done = in_processes(worker, left, config.workers) if left and config.workers > 1 else in_this_process(worker, left)
    with_progress("features", hours, left, done)
    print(f"features: {folder}")


class ShardWorker:
    """Encodes shards by name, one after the other; travels to another process without its models."""

    def __init__(self, config: EncodeConfig) -> None:
        self.config = config
        self._encoder: ShardEncoder | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"config": self.config, "_encoder": None}

    def open(self) -> ShardEncoder:
        self._encoder = self._encoder or ShardEncoder(self.config)
        return self._encoder

    def __call__(self, shard: str) -> None:
        single_thread()  # sums on one thread have one order
        self.open()(shard)


class ShardEncoder:
    """The models, and where what they make of a work folder lies."""

    def __init__(self, config: EncodeConfig) -> None:
        self.work, self.device = Path(config.work), pick_device(config.device)
        tokenizer = load_tokenizer(config.backbone)
        self.ears = Ears(config.encoder).to(self.device)
        self.aligner = TokenAligner(config.aligner, tokenizer).to(self.device)
        self.header = FeaturesHeader(
            encoder=config.encoder,
            fingerprint=self.ears.fingerprint,
            width=self.ears.width,
            frames_per_sec=self.ears.frames_per_sec,
            tokenizer=tokenizer_fingerprint(tokenizer),
            aligner=self.aligner.fingerprint,
        )
        made_by = (self.header.fingerprint, self.header.tokenizer, self.header.aligner)
        self.folder = self.work / FOLDER / hashlib.sha256(" ".join(made_by).encode()).hexdigest()[:16]

    def __call__(self, shard: str) -> None:
        """Writes the features of a shard, unless they are there."""
        if not _is_done(self.work, self.folder, shard):
            write_features(self.folder / shard, self.header, self._clips(shard))

    @torch.inference_mode()
    def _clips(self, shard: str) -> Iterator[Encoded]:
        folder = self.work / "speech" / shard
        audio = RaggedArray(folder / "audio")
        rate = pcm_rate(folder, audio)
        same = self.ears.fingerprint == self.aligner.ears.fingerprint
        scale = self.ears.frames_per_sec / self.aligner.ears.frames_per_sec
        for utterance, pcm in zip(read_manifest(folder), audio, strict=True):
            samples = pcm / np.float32(32768)
            features = self._heard(self.ears, samples, rate)
            frames = (features if same else self._heard(self.aligner.ears, samples, rate)).frames
            tokens = self.aligner(utterance.text, frames)
            tokens[:, 1:] = (tokens[:, 1:] * scale).round()
            yield Encoded(features.frames.cpu().numpy(), tokens, features.transcript)

    def _heard(self, ears: Ears, samples: np.ndarray, rate: int) -> Features:
        return ears([torch.from_numpy(resampled(samples, rate, ears.sample_rate)).to(self.device)])[0]


def _is_done(work: Path, folder: Path, shard: str) -> bool:
    """Whether the features of a shard are there; of another number of clips they are the user's to remove."""
    if not (folder / shard / ABOUT).is_file():
        return False
    check_fits(folder / shard, work / "speech" / shard)
    return True


main = recipe_main(encode, __doc__, one_thread=False)


if __name__ == "__main__":
    main()
