"""Trains the monitor's recogniser, which tells phones from semantic tokens, and reads each voice's pace off its recordings.

    voicegraft recipe train_monitor pocket/monitor work=runs/pocket

It learns from speech whose phones are timed, never from what a model has said: that would teach it to believe the model.
Writes ``work/monitor``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from voicegraft.core.runtime import pick_device
from voicegraft.data.prepared import Clip, PreparedSpeech, frame_classes, frame_counts, newest_alignments
from voicegraft.data.tokens import Tokens
from voicegraft.guard.recognizer import MonitorConfig, UnitRecognizer, VoicePace
from voicegraft.recipes.command import recipe_main
from voicegraft.text.units import BOUNDARIES, START, UNITS
from voicegraft.tokenizers.loading import open_semantic
from voicegraft.train.config import LoopConfig
from voicegraft.train.engine import save_once
from voicegraft.train.loop import Losses, Metrics, Models, run


@dataclass(frozen=True)
class TrainMonitorConfig:
    work: str = "runs/mine"  # the work folder
    corpora: tuple[str, ...] = ()  # shards whose names begin so; none: all
    before: int = 5  # tokens told before a frame
    after: int = 3  # and after it: the guard's look-ahead grows with them
    dim: int = 48  # of a token's embedding
    hidden: int = 192
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch_size: int = 2048  # frames
    human_share: float = 0.5  # of the frames; the rest are of synthetic speech
    hidden_tokens: float = 0.1  # share of the tokens that are not shown
    shortest_phone_limit: int = 30  # frames that a phone may last, however short the voice's own phones are
    shortest_pause_limit: int = 50  # the same of a boundary
    device: str = "auto"


@dataclass(frozen=True)
class Frames:
    """Windows of tokens ``[N, width]`` around frames, and the frames' classes ``[N]``."""

    windows: Tensor
    classes: Tensor


def train_monitor(config: TrainMonitorConfig) -> None:
    work, device = Path(config.work), pick_device(config.device)
    spec = open_semantic(work / "semantic").spec
    speech = PreparedSpeech(work, config.corpora or None, newest_alignments(work))
    tokens = Tokens(work, "semantic", spec.fingerprint)
    rate = spec.sample_rate / spec.hop
    torch.manual_seed(0)
    model = UnitRecognizer(
        MonitorConfig(spec.fingerprint, spec.vocab_size, UNITS, config.before, config.after, config.dim, config.hidden)
    ).to(device)

    def frames(split: str, synthetic: bool) -> Frames:
        clips = [clip for clip in speech.select(split, synthetic) if clip.utterance.units]
        windows, classes = [], []
        for clip in tqdm(clips, desc=f"{split} tokens", unit="clip", leave=False):
            row = np.array(tokens(clip)[:, 0])
            padded = np.pad(row, (config.before, config.after), constant_values=model.nothing)
            windows.append(np.lib.stride_tricks.sliding_window_view(padded, model.width))
            classes.append(frame_classes(clip.utterance, len(row), rate))
        return Frames(torch.from_numpy(np.concatenate(windows)), torch.from_numpy(np.concatenate(classes)))

    kinds = ["human", *(["synthetic"] if speech.select("train", synthetic=True) else [])]
    train = {kind: frames("train", kind == "synthetic") for kind in kinds}
    held = {kind: frames("val", kind == "synthetic") for kind in kinds}

    def batch(step: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(config.loop.seed * 1_000_003 + step)
        num_human = round(config.batch_size * config.human_share) if len(kinds) > 1 else config.batch_size
        windows, classes = [], []
        for kind, count in zip(kinds, (num_human, config.batch_size - num_human), strict=False):
            chosen = torch.randint(len(train[kind].classes), (count,), generator=draw)
            windows.append(train[kind].windows[chosen].long())
            classes.append(train[kind].classes[chosen])
        shown = torch.cat(windows)
        unseen = torch.rand(shown.shape, generator=draw) < config.hidden_tokens
        return shown.masked_fill(unseen, model.nothing).to(device), torch.cat(classes).to(device)

    def losses(models: Models, batch: tuple[Tensor, Tensor], step: int) -> tuple[Losses, Metrics]:
        logits = models["monitor"](batch[0])
        right = (logits.argmax(-1) == batch[1]).float().mean()
        return {"monitor": F.cross_entropy(logits.float(), batch[1])}, {"right": right}

    @torch.inference_mode()
    def validate(_: int) -> dict[str, float]:
        return {
            f"{kind}_right": float((model(f.windows.long().to(device)).argmax(-1).cpu() == f.classes).float().mean())
            for kind, f in held.items()
        }

    if run(config.loop, work / "monitor-training", {"monitor": model}, batch, losses, validate):
        voices = sorted({clip.utterance.speaker for clip in speech.select("train", synthetic=False)})
        pace = tuple(
            voice_pace(config, voice, [c for c in speech.select("train", False) if c.utterance.speaker == voice], rate)
            for voice in voices
        )
        model.config = replace(model.config, pace=pace)
        about = {"recipe": "train_monitor", "steps": config.loop.steps, **validate(0)}
        save_once(model, model.save, work / "monitor", about)


def voice_pace(config: TrainMonitorConfig, voice: str, clips: Sequence[Clip], frame_rate: float) -> VoicePace:
    """How long the voice holds each unit; a unit that it never says is given the mean of all."""
    lengths: dict[str, list[int]] = {unit: [] for unit in UNITS}
    for utterance in (clip.utterance for clip in clips):
        if utterance.units:
            counts = frame_counts(utterance, round(utterance.unit_ends_sec[-1] * frame_rate), frame_rate)
            for unit, count in zip(utterance.units, counts, strict=True):
                lengths[unit].append(int(count))
    every = [count for counts in lengths.values() for count in counts]
    known = {unit: counts or every for unit, counts in lengths.items()}

    def longest(unit: str) -> int:
        least = config.shortest_pause_limit if unit in (START, *BOUNDARIES) else config.shortest_phone_limit
        return max(least, int(1.5 * np.quantile(known[unit], 0.999)))

    return VoicePace(
        voice,
        tuple(round(float(np.mean(known[unit])), 2) for unit in UNITS),
        tuple(round(float(np.var(known[unit])), 2) for unit in UNITS),
        tuple(longest(unit) for unit in UNITS),
    )


main = recipe_main(train_monitor, __doc__)


if __name__ == "__main__":
    main()
