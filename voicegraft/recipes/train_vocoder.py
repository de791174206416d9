"""Trains the vocoder on the codec's codes of the recordings: first by spectra alone, then in rounds against discriminators.

    voicegraft recipe train_vocoder pocket/vocoder work=runs/pocket

Writes ``vocoder/`` after the last round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from voicegraft.acoustic.adversary import Adversary, AdversaryConfig
from voicegraft.acoustic.losses import SpectralLoss
from voicegraft.acoustic.vocoder import NOISE_LENGTH, Vocoder, VocoderConfig
from voicegraft.audio.pitch import track_pitch
from voicegraft.core.runtime import pick_device
from voicegraft.data.prepared import Clip, PreparedSpeech, draw_clips
from voicegraft.data.shards import RaggedArray, write_ragged
from voicegraft.data.tokens import Tokens
from voicegraft.recipes.command import recipe_main
from voicegraft.tokenizers.codec import Codec
from voicegraft.train.config import LoopConfig
from voicegraft.train.engine import main_first, save_once
from voicegraft.train.loop import Losses, Metrics, Models, run

Crops = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class TrainVocoderConfig:
    work: str = "runs/mine"  # the work folder
    corpora: tuple[str, ...] = ()  # shards whose names begin so; none: all
    model: VocoderConfig = field(default_factory=VocoderConfig)
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)
    spectral: LoopConfig = field(default_factory=LoopConfig)
    adversarial: tuple[LoopConfig, ...] = (LoopConfig(),)  # rounds, one after the other
    batch_size: int = 16  # crops, spectral round
    adversarial_batch_size: int = 8  # crops, adversarial round
    crop_frames: int = 40  # code frames per crop
    lead_frames: int = 8  # first frames of a crop, which have no past: not judged
    adversary_lead_steps: int = 100  # steps for which only the discriminators learn
    spectral_weight: float = 12.0  # of the spectral loss in the adversarial round
    matching_weight: float = 2.0  # of feature matching
    device: str = "auto"


def train_vocoder(config: TrainVocoderConfig) -> None:
    work, device = Path(config.work), pick_device(config.device)
    codec = Codec.load(work / "codec")
    speech = PreparedSpeech(work, config.corpora or None)
    tokens = Tokens(work, "codec", codec.spec.fingerprint)
    with main_first():
        pitch = pitch_tracks(speech, work / "pitch", config.model)
    train, val = speech.select("train"), speech.select("val")
    torch.manual_seed(0)
    model = Vocoder(replace(config.model, codec=codec.spec.fingerprint))
    model.codebooks.copy_(codec.rvq.codebooks)
    model.to(device)
    spectral_loss = SpectralLoss().to(device)
    hop = config.model.hop
    lead = config.lead_frames * hop

    def crops(number: int, seed: int, batch_size: int) -> Crops:
        """Codes ``[B, K, T]``, the samples ``[B, T * hop]`` they stand for, and the log pitch ``[B, 2 T]``."""
        draw = np.random.default_rng([seed, number])
        rows = []
        for clip in draw_clips(train, draw, batch_size):
            codes = tokens(clip)
            start = int(draw.integers(max(1, len(codes) - config.crop_frames + 1)))
            codes = codes[start : start + config.crop_frames].astype(np.int64)
            missing = config.crop_frames - len(codes)
            samples = speech.samples(clip)[start * hop : (start + config.crop_frames) * hop]
            melody = pitch(clip)[2 * start : 2 * (start + config.crop_frames)]
            rows.append(
                (
                    np.pad(codes, ((0, missing), (0, 0)), mode="edge").T,
                    np.pad(samples, (0, config.crop_frames * hop - len(samples))),
                    np.pad(melody, (0, 2 * config.crop_frames - len(melody)), constant_values=np.nan),
                )
            )
        codes_, samples_, melodies = (
            torch.from_numpy(np.stack(column)).to(device) for column in zip(*rows, strict=True)
        )
        return codes_, samples_, melodies

    def make(vocoder: nn.Module, batch: Crops, step: int) -> tuple[Tensor, Tensor]:
        """The samples made with the true pitch, and the error of the predicted one (natural log)."""
        made, predicted = vocoder(batch[0], batch[2], step * 7919 % NOISE_LENGTH)
        voiced = ~batch[2].isnan()
        error = ((predicted - batch[2].nan_to_num()).abs() * voiced).sum() / voiced.sum().clamp(min=1)
        return made, error

    def by_spectra(models: Models, batch: Crops, step: int) -> tuple[Losses, Metrics]:
        made, pitch_error = make(models["vocoder"], batch, step)
        spectral = spectral_loss(made[:, lead:], batch[1][:, lead:])
        return {"vocoder": spectral + pitch_error}, {"spectral": spectral.detach(), "pitch": pitch_error.detach()}

    def against_adversary(models: Models, batch: Crops, step: int) -> tuple[Losses, Metrics]:
        adversary = models["adversary"]
        assert isinstance(adversary, Adversary)
        real = batch[1][:, lead:]
        made, pitch_error = make(models["vocoder"], batch, step)
        made = made[:, lead:]
        losses = {"adversary": adversary.own_loss(real, made)}
        if step < config.adversary_lead_steps:
            return losses, {}
        spectral = spectral_loss(made, real)
        fooling, matching = adversary.makers_loss(real, made)
        losses["vocoder"] = (
            config.spectral_weight * (spectral + pitch_error) + fooling + config.matching_weight * matching
        )
        parts = {"spectral": spectral, "fooling": fooling, "matching": matching}
        return losses, {name: part.detach() for name, part in parts.items()}

    def validate(_: int) -> dict[str, float]:
        errors = []
        for clip in val:
            codes = torch.from_numpy(tokens(clip).T.astype(np.int64))[None].to(device)
            real = torch.from_numpy(speech.samples(clip))[None].to(device)[:, : codes.shape[-1] * hop]
            truth = torch.from_numpy(np.array(pitch(clip), np.float32))[None].to(device)
            made, error = make(model, (codes, real, truth), 0)
            errors.append((float(spectral_loss(made, real)), float(error)))
        spectral, pitch_error = np.mean(errors, axis=0)
        return {"spectral": float(spectral), "pitch": float(pitch_error)}

    provenance: dict[str, object] = {"recipe": "train_vocoder", "corpora": list(config.corpora)}
    folder = work / "vocoder-training"
    first = config.spectral
    if not run(
        first,
        folder / "spectral",
        {"vocoder": model},
        partial(crops, seed=first.seed, batch_size=config.batch_size),
        by_spectra,
        validate,
    ):
        return
    models: dict[str, nn.Module] = {"vocoder": model, "adversary": Adversary(config.adversary).to(device)}
    for number, loop in enumerate(config.adversarial):
        if not run(
            loop,
            folder / f"adversarial{number}",
            models,
            partial(crops, seed=loop.seed + 1, batch_size=config.adversarial_batch_size),
            against_adversary,
            validate,
        ):
            return
    save_once(model, model.save, work / "vocoder", provenance)


def pitch_tracks(speech: PreparedSpeech, folder: Path, model: VocoderConfig) -> Callable[[Clip], np.ndarray]:
    """Log pitch at each window step of each clip, as the vocoder predicts it; tracked once and kept in ``folder``."""
    ahead = Vocoder(model).pitch_offset // model.frame
    key = f"log-pitch-{model.sample_rate}-{model.frame}-{ahead}"
    shards: dict[str, list[Clip]] = {}
    for clip in speech.clips:
        shards.setdefault(clip.folder.name, []).append(clip)

    def track(clip: Clip) -> np.ndarray:
        samples = torch.from_numpy(speech.samples(clip))
        whole = track_pitch(samples, model.sample_rate, model.frame).numpy()
        return np.pad(whole[ahead:], (0, ahead), constant_values=np.nan)

    for name, clips in tqdm(shards.items(), desc="pitch", unit="shard"):
        if not (folder / name / "index.json").is_file():
            write_ragged(folder / name, map(track, clips), "float32", key=key)
    rows = {name: RaggedArray(folder / name, key=key) for name in shards}
    return lambda clip: rows[clip.folder.name][clip.row]


main = recipe_main(train_vocoder, __doc__)


if __name__ == "__main__":
    main()
