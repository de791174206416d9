"""Semantic units from a pretrained encoder: k-means over the frames of one of its layers.

    voicegraft recipe fit_units encoder=facebook/w2v-bert-2.0 layer=17 vocab_size=2000 work=runs/mine

Reads the audio of ``work/speech`` (training split), a few clips a step, and keeps no features. Writes ``work/semantic``, which
holds the encoder too. ``work/semantic-training`` has the log and a checkpoint: a run killed at any moment goes on from there
and ends with the centroids of one that never stopped.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from voicegraft.audio.io import resampled
from voicegraft.core.artifacts import artifact_exists, load_artifact, save_artifact
from voicegraft.core.config import to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.runtime import pick_device
from voicegraft.data.prepared import PreparedSpeech
from voicegraft.recipes.command import recipe_main
from voicegraft.tokenizers.centroids import MiniBatchKMeans, plus_plus
from voicegraft.tokenizers.encoder_units import EncoderUnits


@dataclass(frozen=True)
class FitUnitsConfig:
    encoder: str  # folder, or name on the Hugging Face hub: HuBERT, WavLM, w2v-BERT 2.0 or Whisper
    layer: int  # its hidden layer; 0 is what enters the first
    work: str = "runs/mine"  # the work folder
    vocab_size: int = 2000  # units, 4,096 at most
    corpora: tuple[str, ...] = ()  # shards whose names begin so; none: all
    standardise: bool = True  # features to mean 0 and variance 1, over the first frames
    steps: int = 1000  # batches of clips
    batch_clips: int = 32  # clips a step
    clip_sec: float = 30.0  # a longer clip gives a piece of this length
    first_frames: int = 10  # frames per unit, from which the first centroids are chosen
    reseed_every: int = 20  # steps after which a unit that nothing was near to moves elsewhere
    save_every: int = 50  # steps between checkpoints
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_clips, self.first_frames, self.reseed_every, self.save_every) < 1:
            raise ValueError("steps, batch_clips, first_frames, reseed_every and save_every must each be at least 1")


@dataclass(frozen=True)
class Progress:
    """What a checkpoint says of itself."""

    step: int  # steps done
    run: str  # digest of all that the centroids depend on


class Frames:
    """The frames of ``batch_clips`` clips; which clips and pieces follows from the batch's number alone."""

    def __init__(self, config: FitUnitsConfig, units: EncoderUnits):
        self.config, self.units = config, units
        self.speech = PreparedSpeech(Path(config.work), config.corpora or None)
        self.clips = self.speech.select("train")
        if not self.clips:
            raise VoicegraftError(
                f"expected clips of the split train in {config.work}/speech, found none; prepare more"
            )

    @property
    def num_batches(self) -> int:
        """Batches in which every clip comes once."""
        return -(-len(self.clips) // self.config.batch_clips)

    def __call__(self, number: int) -> Tensor:
        """Features ``[N, D]``."""
        c, rate = self.config, self.units.encoder.sample_rate
        turn, place = divmod(number, self.num_batches)
        order = np.random.default_rng([c.seed, turn]).permutation(len(self.clips))
        draw = np.random.default_rng([c.seed, 1, number])
        found = []
        for i in order[place * c.batch_clips : (place + 1) * c.batch_clips]:
            clip = self.clips[i]
            samples, clip_rate = self.speech.samples(clip), self.speech.rate(clip)
            length = round(c.clip_sec * clip_rate)
            start = int(draw.random() * max(0, len(samples) - length + 1))
            piece = resampled(samples[start : start + length], clip_rate, rate).clip(-1, 1)
            found.append(self.units.features(torch.from_numpy(piece)[None])[0])
        return torch.cat(found)


@torch.inference_mode()
def fit_units(config: FitUnitsConfig) -> None:
    """Fits the units and writes ``work/semantic``.

    Raises:
        VoicegraftError: no such encoder or layer, no speech, fewer frames than units, or a checkpoint of other settings.
    """
    work, device = Path(config.work), pick_device(config.device)
    units = EncoderUnits.from_encoder(config.encoder, config.layer, config.vocab_size).to(device)
    frames = Frames(config, units)
    folder = work / "semantic-training"
    run = _run_digest(config, units, frames)
    kmeans = MiniBatchKMeans(units.centroids)
    step = _resume(folder / "units", run, units, kmeans)
    if step is None:
        kmeans = MiniBatchKMeans(_first_centroids(config, units, frames))
        step = 0
        _save(folder / "units", Progress(step, run), units, kmeans)
    log = SummaryWriter(str(folder / "log"), purge_step=step)
    with tqdm(total=config.steps, initial=step, desc="units", unit="step") as bar:
        for done in range(step + 1, config.steps + 1):
            features = frames(done - 1)
            inertia = kmeans.update(features) if len(features) else 0.0
            log.add_scalar("inertia", inertia, done)
            log.add_scalar("recently_used_units", int((kmeans.recent > 0).sum()), done)
            # What moves elsewhere needs some steps to settle there.
            if done % config.reseed_every == 0 and done + config.reseed_every <= config.steps:
                generator = torch.Generator().manual_seed(config.seed * 1_000_003 + done)
                log.add_scalar("moved_units", kmeans.reseed(features, generator), done)
            if done % config.save_every == 0 or done == config.steps:
                _save(folder / "units", Progress(done, run), units, kmeans)
            bar.set_postfix(inertia=f"{inertia:.4g}")
            bar.update()
    log.close()
    units.place(kmeans.centroids)
    about = {**to_dict(config), "num_clips": len(frames.clips)}
    units.cpu().save(work / "semantic", {"recipe": "fit_units", **about})
    print(f"{config.vocab_size} units {units.spec.fingerprint}: {work / 'semantic'}")


def _first_centroids(config: FitUnitsConfig, units: EncoderUnits, frames: Frames) -> Tensor:
    """Centroids among the first frames, by which features are standardised before; no more than one turn of the clips."""
    wanted = config.first_frames * config.vocab_size
    found: list[Tensor] = []
    total = 0
    with tqdm(total=wanted, desc="first frames", unit="frame") as bar:
        for number in range(frames.num_batches):
            found.append(frames(number))
            total += len(found[-1])
            bar.update(len(found[-1]))
            if total >= wanted:
                break
    first = torch.cat(found)
    if config.standardise and len(first):
        units.standardise(first)
        first = (first - units.centre) / units.scale
    return plus_plus(first, config.vocab_size, torch.Generator().manual_seed(config.seed))


def _run_digest(config: FitUnitsConfig, units: EncoderUnits, frames: Frames) -> str:
    settings = {k: v for k, v in to_dict(config).items() if k not in ("encoder", "work", "save_every", "device")}
    what = {**settings, "weights": units.config.encoder, "clips": [clip.utterance.id for clip in frames.clips]}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def _save(folder: Path, progress: Progress, units: EncoderUnits, kmeans: MiniBatchKMeans) -> None:
    tensors = {**kmeans.tensors(), "centre": units.centre, "scale": units.scale}
    save_artifact(folder, "units-checkpoint", progress, tensors)


def _resume(folder: Path, run: str, units: EncoderUnits, kmeans: MiniBatchKMeans) -> int | None:
    """The step that a checkpoint is of, with everything as it was then; None if there is no checkpoint."""
    if not artifact_exists(folder):
        return None
    saved = load_artifact(folder, "units-checkpoint", Progress)
    if saved.config.run != run:
        raise VoicegraftError(f"{folder} is of other settings, speech or weights: delete it, or restore those")
    kmeans.restore(saved.tensors)
    units.centre.copy_(saved.tensors["centre"])
    units.scale.copy_(saved.tensors["scale"])
    return saved.config.step


main = recipe_main(fit_units, __doc__, one_thread=False)


if __name__ == "__main__":
    main()
