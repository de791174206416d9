"""Trains the acoustic tokenizer on recordings.

    voicegraft recipe train_codec pocket/codec work=runs/pocket

Writes ``codec/``. The vocoder is trained afterwards, from the finished codes (``train_vocoder``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from voicegraft.core.runtime import pick_device
from voicegraft.data.prepared import Clip, PreparedSpeech, draw_clips
from voicegraft.recipes.command import recipe_main
from voicegraft.tokenizers.codec import Codec, CodecConfig
from voicegraft.train.config import LoopConfig
from voicegraft.train.engine import save_once
from voicegraft.train.loop import run


@dataclass(frozen=True)
class TrainCodecConfig:
    work: str = "runs/mine"  # the work folder
    corpora: tuple[str, ...] = ()  # shards whose names begin so; none: all
    model: CodecConfig = field(default_factory=CodecConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch_size: int = 16  # crops
    crop_frames: int = 60  # token frames per crop
    device: str = "auto"


def train_codec(config: TrainCodecConfig) -> None:
    work, device = Path(config.work), pick_device(config.device)
    speech = PreparedSpeech(work, config.corpora or None)
    train, val = speech.select("train"), speech.select("val")
    torch.manual_seed(0)
    model = Codec(config.model).to(device)
    crop = config.crop_frames * model.spec.hop

    def batch_at(number: int) -> Tensor:
        return waveform_crops(speech, train, config.batch_size, crop, number, config.loop.seed).to(device)

    def validate(_: int) -> dict[str, float]:
        errors = []
        for clip in val:
            samples = torch.from_numpy(speech.samples(clip))[None].to(device)
            mel = model.log_mel(samples)
            rebuilt = model.decode_mel(model.encode(samples))
            errors.append(float((rebuilt - mel[..., : rebuilt.shape[-1]]).abs().mean()))
        return {"mel": float(np.mean(errors))}

    if run(config.loop, work / "codec-training", {"codec": model}, batch_at, validate=validate):
        model.half().float()  # the codes of all later stages come from the weights as shipped
        save_once(model, model.save, work / "codec", {"recipe": "train_codec", "corpora": list(config.corpora)})


def waveform_crops(
    speech: PreparedSpeech, clips: list[Clip], batch_size: int, num_samples: int, number: int, seed: int
) -> Tensor:
    """Random crops ``[B, num_samples]`` that depend on the number and the seed alone; long clips are likelier."""
    draw = np.random.default_rng([seed, number])
    rows = []
    for clip in draw_clips(clips, draw, batch_size):
        samples = speech.samples(clip)
        start = draw.integers(max(1, len(samples) - num_samples + 1))
        piece = samples[start : start + num_samples]
        rows.append(np.pad(piece, (0, num_samples - len(piece))))
    return torch.from_numpy(np.stack(rows))


main = recipe_main(train_codec, __doc__)


if __name__ == "__main__":
    main()
