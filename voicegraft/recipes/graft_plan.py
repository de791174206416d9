"""What a graft will take: minutes from this machine's own speed, disk from the sizes of what is made. Estimates only."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from voicegraft.acoustic.acoustic_lm import AcousticLM
from voicegraft.core.hub import resolve
from voicegraft.core.runtime import pick_device
from voicegraft.data.manifest import read_manifest
from voicegraft.data.prepared import shard_folders
from voicegraft.data.sources.detect import open_source
from voicegraft.recipes.stages import Stage, costs, is_done

if TYPE_CHECKING:
    from voicegraft.recipes.graft import GraftConfig

# Hours of audio per hour on one core of the machine that the pocket pack was made on (docs/measured/graft.md).
PREPARE_SPEED, ALIGN_SPEED, POCKET_TOKENS_SPEED = 200, 40, 60
ENCODER_PARAMETERS = 95e6  # HuBERT-base and the like
EFFICIENCY = 0.5  # of the speed of large products, that training reaches
SAMPLE = 200  # files that are opened to guess how many hours a corpus has


@dataclass(frozen=True)
class Estimates:
    hours: float  # of audio
    parameters: float  # of the backbone
    flops: float  # a second
    config: GraftConfig

    @staticmethod
    def of(config: GraftConfig, work: Path) -> Estimates:
        return Estimates(_hours(config, work), _parameters(config.backbone), _speed(config.device), config)

    def fill(self, stage: Stage) -> Stage:
        """The stage with what it will take."""
        c = self.config
        workers = c.workers
        semantic = 3600 * ENCODER_PARAMETERS * 2 * 50 / self.flops if c.semantic.encoder else 3600 / POCKET_TOKENS_SPEED
        frames = self.hours * 3600 * 50
        loops = [one.loop.steps for one in c.speech.rounds]
        acoustic = _acoustic_parameters(c)
        lora = 0.02 * self.parameters * c.speech.lora.rank / 16
        positions = sum(loops) * c.speech.batch_positions
        crops = c.acoustic.batch_size * c.acoustic.crop_frames * sum(r.steps for r in c.acoustic.rounds)
        seconds = {
            "prepare": self.hours * 3600 / PREPARE_SPEED / workers,
            "align": self.hours * 3600 / ALIGN_SPEED,
            "semantic": self._flops(c.semantic.steps * 32 * 8 * 50 * 2 * ENCODER_PARAMETERS)
            if c.semantic.encoder
            else 1,
            "tokens": self.hours * semantic * 2 / workers,
            "acoustic": self._flops(6 * acoustic * crops),
            "expert": self._flops(positions * (4 * self.parameters + 6 * lora)),
            "monitor": self._flops(6 * 2e5 * c.monitor.batch_size * c.monitor.loop.steps),
            "pack": 5.0,
        }
        megabytes = {
            "prepare": self.hours * 3600 * c.corpus.sample_rate * 2 / 1e6,
            "tokens": frames * 2 * 9 / 1e6,
            "acoustic": acoustic * 13 / 1e6,  # the weights, and a checkpoint with two moments in float32
            "expert": lora * 14 / 1e6,
            "pack": (2 * self.parameters if c.copy_backbone is not False else 0) / 1e6 + 30,
        }
        if c.router is not None:
            seconds["router"] = self._flops(c.router.loop.steps * 2 * c.router.batch_positions * 4 * self.parameters)
        took = seconds.get(stage.name)
        return replace(stage, minutes=None if took is None else took / 60, megabytes=megabytes.get(stage.name))

    def _flops(self, count: float) -> float:
        """Seconds."""
        return count / (self.flops * EFFICIENCY)


def show_plan(name: str, work: Path, stages: Sequence[Stage]) -> None:
    """Prints the stages with their estimated time and disk, and what is done already."""
    spent = costs(work)
    print(f"Plan for {name}, in {work}; minutes and megabytes are estimates.")
    print(f"{'stage':<11}{'':<38}{'minutes':>9}{'MB':>9}  state")
    minutes = megabytes = 0.0
    for stage in stages:
        done = is_done(work, stage)
        state = f"done in {spent[stage.name]['minutes']:g} min" if done else "begun" if stage.name in spent else "to do"
        left = 0.0 if done else stage.minutes or 0.0
        minutes, megabytes = minutes + left, megabytes + (0.0 if done else stage.megabytes or 0.0)
        took = "" if stage.minutes is None else f"{stage.minutes:.1f}"
        size = "" if stage.megabytes is None else f"{stage.megabytes:.0f}"
        print(f"{stage.name:<11}{stage.about:<38}{took:>9}{size:>9}  {state}")
    work.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(work).free / 1e6
    print(f"{'to do':<49}{minutes:>9.1f}{megabytes:>9.0f}  {free:.0f} MB free")
    if megabytes > free:
        print("warning: there may not be enough room on the disk")


def _hours(config: GraftConfig, work: Path) -> float:
    """Of what was prepared; before, a guess from some of the files."""
    folders = shard_folders(work)
    if folders:
        return sum(u.duration_sec for folder in folders for u in read_manifest(folder)) / 3600
    total = 0.0
    for corpus in config.corpora:
        source = open_source(corpus, config.corpus.layout, config.corpus.audio_root)
        lengths, count = [], 0
        records = list(islice(source.records(), 100_000))
        count = len(records)
        for record in random.Random(0).sample(records, min(SAMPLE, count)):
            if record.duration_sec is not None:
                lengths.append(record.duration_sec)
            elif isinstance(record.audio, Path) and record.audio.is_file():
                try:
                    lengths.append(soundfile.info(record.audio).duration)
                except soundfile.LibsndfileError:
                    continue  # prepare will say what is wrong with it
        total += count * sum(lengths) / max(1, len(lengths))
    return total / 3600


def _parameters(backbone: str) -> float:
    """Of the backbone, without reading its weights."""
    config = AutoConfig.from_pretrained(resolve(backbone), trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return float(sum(p.numel() for p in model.parameters()))


def _acoustic_parameters(config: GraftConfig) -> float:
    with torch.device("meta"):
        return float(sum(p.numel() for p in AcousticLM(config.acoustic.model).parameters()))


def _speed(device: str) -> float:
    """Floating-point operations a second in large products, measured."""
    where = pick_device(device)
    matrix = torch.randn(512, 512, device=where)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 0.2:
        matrix = torch.nn.functional.normalize(matrix @ matrix)
        count += 1
    float(matrix[0, 0])  # waits for the device
    return count * 2 * 512**3 / (time.perf_counter() - began)
