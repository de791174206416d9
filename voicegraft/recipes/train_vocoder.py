"""Trains the vocoder on the codec's codes of the recordings: first by spectra alone, then against discriminators.

    python -m voicegraft.recipes.train_vocoder configs/pocket/vocoder.yaml work=runs/pocket

Writes ``vocoder/`` after each of the two rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from voicegraft.acoustic.adversary import Adversary, AdversaryConfig
from voicegraft.acoustic.losses import SpectralLoss
from voicegraft.acoustic.vocoder import Vocoder, VocoderConfig
from voicegraft.core.runtime import pick_device, single_thread
from voicegraft.data.speech import PreparedSpeech
from voicegraft.recipes.command import recipe_config
from voicegraft.recipes.tokenize import Tokens
from voicegraft.tokenizers.codec import Codec
from voicegraft.train.loop import LoopConfig, run


@dataclass(frozen=True)
class TrainVocoderConfig:
    work: str = "runs/pocket"
    corpora: tuple[str, ...] = ("kathleen", "ljspeech-part")
    model: VocoderConfig = field(default_factory=VocoderConfig)
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)
    spectral: LoopConfig = field(default_factory=LoopConfig)
    adversarial: LoopConfig = field(default_factory=LoopConfig)
    batch_size: int = 16  # crops, spectral round
    adversarial_batch_size: int = 8  # crops, adversarial round
    crop_frames: int = 40  # code frames per crop
    lead_frames: int = 8  # first frames of a crop, which have no past: not judged
    adversary_lead_steps: int = 100  # steps for which only the discriminators learn
    spectral_weight: float = 12.0  # of the spectral loss in the adversarial round
    matching_weight: float = 2.0  # of feature matching
    device: str = "auto"


def main(argv: list[str] | None = None) -> None:
    single_thread()
    train_vocoder(recipe_config(TrainVocoderConfig, __doc__, argv))


def train_vocoder(config: TrainVocoderConfig) -> None:
    work, device = Path(config.work), pick_device(config.device)
    codec = Codec.load(work / "codec")
    speech = PreparedSpeech(work, config.corpora)
    tokens = Tokens(work, "codec", codec.spec.fingerprint)
    train, val = speech.select("train"), speech.select("val")
    weights = np.asarray([c.utterance.duration_sec for c in train])
    weights /= weights.sum()
    torch.manual_seed(0)
    model = Vocoder(replace(config.model, codec=codec.spec.fingerprint))
    model.codebooks.copy_(codec.rvq.codebooks)
    model.to(device)
    spectral_loss = SpectralLoss().to(device)
    hop = config.model.hop
    lead = config.lead_frames * hop

    def crops(number: int, seed: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """Codes ``[B, K, T]`` and the samples ``[B, T * hop]`` they stand for."""
        draw = np.random.default_rng([seed, number])
        codes, samples = [], []
        for i in draw.choice(len(train), size=batch_size, p=weights):
            rows = tokens(train[i])
            start = int(draw.integers(max(1, len(rows) - config.crop_frames + 1)))
            rows = rows[start : start + config.crop_frames]
            missing = config.crop_frames - len(rows)
            piece = speech.samples(train[i])[start * hop : (start + config.crop_frames) * hop]
            codes.append(np.pad(rows, ((0, missing), (0, 0)), mode="edge"))
            samples.append(np.pad(piece, (0, config.crop_frames * hop - len(piece))))
        return torch.from_numpy(np.stack(codes)).long().mT.to(device), torch.from_numpy(np.stack(samples)).to(device)

    def by_spectra(
        players: Mapping[str, nn.Module], batch: tuple[Tensor, Tensor], step: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        made = players["vocoder"](batch[0])
        return {"vocoder": spectral_loss(made[:, lead:], batch[1][:, lead:])}, {}

    def against_adversary(
        players: Mapping[str, nn.Module], batch: tuple[Tensor, Tensor], step: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        adversary = players["adversary"]
        assert isinstance(adversary, Adversary)
        real = batch[1][:, lead:]
        made = players["vocoder"](batch[0])[:, lead:]
        losses = {"adversary": adversary.own_loss(real, made)}
        if step < config.adversary_lead_steps:
            return losses, {}
        spectral = spectral_loss(made, real)
        fooling, matching = adversary.makers_loss(real, made)
        losses["vocoder"] = config.spectral_weight * spectral + fooling + config.matching_weight * matching
        return losses, {"spectral": spectral, "fooling": fooling, "matching": matching}

    @torch.inference_mode()
    def validate(_: int) -> dict[str, float]:
        model.eval()
        errors = []
        for clip in val:
            made = model(torch.from_numpy(tokens(clip).T.astype(np.int64))[None].to(device))
            real = torch.from_numpy(speech.samples(clip))[None].to(device)
            errors.append(float(spectral_loss(made, real[:, : made.shape[-1]])))
        model.train()
        return {"spectral": float(np.mean(errors))}

    provenance: dict[str, object] = {"recipe": "train_vocoder", "corpora": list(config.corpora)}
    folder = work / "vocoder-training"
    first = config.spectral
    if not run(
        first, folder / "spectral", {"vocoder": model}, lambda n: crops(n, first.seed, config.batch_size), by_spectra, validate
    ):
        return
    model.save(work / "vocoder", {**provenance, "rounds": ["spectral"]})
    second = config.adversarial
    players: dict[str, nn.Module] = {"vocoder": model, "adversary": Adversary(config.adversary).to(device)}
    if run(
        second,
        folder / "adversarial",
        players,
        lambda n: crops(n, second.seed + 1, config.adversarial_batch_size),
        against_adversary,
        validate,
    ):
        model.save(work / "vocoder", {**provenance, "rounds": ["spectral", "adversarial"]})


if __name__ == "__main__":
    main()
