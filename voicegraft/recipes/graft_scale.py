"""How much there is to do, for the estimates of a plan: hours of audio, parameters, and this machine's own speed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import soundfile
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import resolve
from voicegraft.core.runtime import pick_device
from voicegraft.data.manifest import read_manifest
from voicegraft.data.prepared import shard_folders
from voicegraft.data.sources.detect import open_source
from voicegraft.fusion.gguf import gguf_config, gguf_in
from voicegraft.recipes.graft_config import GraftConfig

EFFICIENCY = 0.5  # of the speed of large products, that training reaches
SAMPLE = 200  # files that are opened to guess how many hours a corpus has


@dataclass(frozen=True)
class Scale:
    hours: float  # of audio
    parameters: float  # of the backbone
    speed: float  # floating-point operations a second in large products
    num_layers: int = 1  # of the backbone

    @staticmethod
    def of(config: GraftConfig, work: Path) -> Scale:
        size, layers = _backbone_size(config.backbone)
        if config.speech.num_layers > layers:
            raise VoicegraftError(
                f"expected speech.num_layers from 0 (all) to the {layers} of {config.backbone}, got {config.speech.num_layers}"
            )
        return Scale(_hours(config, work), size, measured_speed(config.device), layers)

    def lower(self, num_layers: int) -> float:
        """Parameters of the backbone's first layers; 0: of all."""
        return self.parameters * (min(1.0, num_layers / self.num_layers) if num_layers else 1.0)

    def minutes(self, operations: float) -> float:
        return operations / (self.speed * EFFICIENCY) / 60


def _hours(config: GraftConfig, work: Path) -> float:
    """Of what was prepared; before, a guess from some of the files."""
    folders = shard_folders(work)
    if folders:
        return sum(row.duration_sec for folder in folders for row in read_manifest(folder)) / 3600
    total = 0.0
    for corpus in config.corpora:
        source = open_source(corpus, config.corpus.layout, config.corpus.audio_root)
        lengths = []
        records = list(islice(source.records(), 100_000))
        for record in random.Random(0).sample(records, min(SAMPLE, len(records))):
            if record.duration_sec is not None:
                lengths.append(record.duration_sec)
            elif isinstance(record.audio, Path) and record.audio.is_file():
                try:
                    lengths.append(soundfile.info(record.audio).duration)
                except soundfile.LibsndfileError:
                    continue  # prepare will say what is wrong with it
        total += len(records) * sum(lengths) / max(1, len(lengths))
    return total / 3600


def _backbone_size(backbone: str) -> tuple[float, int]:
    """Parameters and layers, without reading the weights."""
    folder = resolve(backbone)
    file = gguf_in(folder)
    config = gguf_config(file) if file else AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return parameters(lambda: AutoModelForCausalLM.from_config(config)), config.get_text_config().num_hidden_layers


def parameters(make: Callable[[], nn.Module]) -> float:
    """Of a model that is built without memory for its weights."""
    with torch.device("meta"):
        return float(sum(p.numel() for p in make().parameters()))


def measured_speed(device: str) -> float:
    """Floating-point operations a second in large products."""
    where = pick_device(device)
    matrix = torch.randn(512, 512, device=where)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 0.2:
        matrix = torch.nn.functional.normalize(matrix @ matrix)
        count += 1
    float(matrix[0, 0])  # waits for the device
    return count * 2 * 512**3 / (time.perf_counter() - began)
