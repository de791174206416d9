"""How many hours of speech are tokenized in an hour: one process, and several beside it in the same run.

    python -m benchmarks.tokenizing [pack=DIR] [speech=work/speech/SHARD] [out=FILE.json]

Measures a pack's semantic tokenizer and codec, and units over an encoder of the size of HuBERT base with random weights,
whose cost does not depend on what it has learnt. Starting up is left out. The load of the machine stands beside every row:
where others compute too, CPU time is the number to plan with.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import report
from voicegraft.core.library_logging import quietly
from voicegraft.core.runtime import seed_all, single_thread
from voicegraft.data.shards import RaggedArray, write_ragged
from voicegraft.inference.pack import DEFAULT_PACK
from voicegraft.recipes.command import recipe_config
from voicegraft.recipes.tokenize import ShardWorker, open_tokenizer, shard_hours
from voicegraft.recipes.tokenize_processes import in_processes, in_this_process

MADE_UP_RATE = 24_000  # Hz


@dataclass(frozen=True)
class BenchTokenizeConfig:
    pack: str = ""  # with its tokenizers; empty: the pocket pack
    speech: str = ""  # a shard of prepared speech; empty: made-up sound in clips of 5 s
    out: str = ""  # JSON file; empty: standard output only
    hubert_layer: int = 9  # of the random encoder, whose layers above are not computed; 0: leave it out
    hubert_units: int = 500
    workers: int = 2  # processes beside one
    num_shards: int = 8
    shard_sec: float = 4.0  # CPU time of one, about


def main(argv: list[str] | None = None) -> None:
    single_thread()
    config = recipe_config(BenchTokenizeConfig, __doc__, argv)
    results = bench(config)
    report(results, config.out, results)


def bench(config: BenchTokenizeConfig) -> list[dict[str, Any]]:
    pack = Path(config.pack) if config.pack else DEFAULT_PACK
    kinds = {"pack's semantic": "semantic", "pack's codec": "codec"}
    kinds |= {"HuBERT base": "semantic"} if config.hubert_layer else {}
    results = []
    for name, kind in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            if name == "HuBERT base":
                write_random_hubert(work, config.hubert_layer, config.hubert_units)
            else:
                shutil.copytree(pack / kind, work / kind)
            results.append({"tokenizer": name, **measure(config, work, kind)})
    return results


def write_random_hubert(work: Path, layer: int, num_units: int) -> None:
    """Writes ``work/semantic``: units over HuBERT base as transformers configures it, with random weights."""
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    from voicegraft.tokenizers.encoder_units import EncoderUnits

    seed_all(0)
    with quietly():
        HubertModel(HubertConfig()).save_pretrained(work / "hubert")
        Wav2Vec2FeatureExtractor().save_pretrained(work / "hubert")
        units = EncoderUnits.from_encoder(work / "hubert", layer, num_units)
    units.place(torch.randn(units.centroids.shape))
    units.save(work / "semantic", {})


def measure(config: BenchTokenizeConfig, work: Path, kind: str) -> dict[str, Any]:
    """Hours of speech per hour of wall time, in one process and in several, and hours of CPU time per hour of speech."""
    clips, rate = _clips(config.speech)
    tokenizer = open_tokenizer(work, kind, "cpu")
    second = np.zeros((1, tokenizer.spec.sample_rate), np.float32)
    with torch.inference_mode():
        for _ in range(2):  # what only the first call costs is not measured
            started = time.process_time()
            tokenizer.encode(torch.from_numpy(second.repeat(5, axis=1)))
            speed = 5 / (time.process_time() - started)
    for i in range(config.num_shards):
        _write_shard(work / "speech" / f"shard-{i}", clips, rate, config.shard_sec * speed)
    names = sorted(path.name for path in (work / "speech").iterdir())
    worker = ShardWorker(work, kind, "cpu", open_tokenizer)
    one, cpu = _rates(work, in_this_process(worker, names), 1)
    shutil.rmtree(work / "tokens")
    fresh = ShardWorker(work, kind, "cpu", open_tokenizer)
    several, _ = _rates(work, in_processes(fresh, names, config.workers), config.workers)
    hours = sum(shard_hours(work, name) for name in names)
    return {
        "audio_hours": round(hours, 3),
        "hours_per_hour": round(one, 1),
        "cpu_hours_per_1000_hours": round(1000 / cpu, 2),
        "workers": config.workers,
        "hours_per_hour_of_workers": round(several, 1),
        "ratio": round(several / one, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def _rates(work: Path, done: Iterator[str], num_first: int) -> tuple[float, float]:
    """Hours of speech per hour by the clock, and per hour of this process's CPU time.

    The first shards are left out: the workers start meanwhile.
    """
    for _ in islice(done, num_first):
        pass
    clock, cpu = time.monotonic(), time.process_time()
    seconds = 3600 * sum(shard_hours(work, name) for name in done)
    return seconds / (time.monotonic() - clock), seconds / (time.process_time() - cpu)


def _clips(speech: str) -> tuple[Iterator[np.ndarray], int]:
    """Clips without end, int16 ``[T]``, and their rate in Hz."""
    if speech:
        audio = RaggedArray(Path(speech) / "audio")
        return cycle(audio), int(audio.key.removeprefix("pcm-"))
    random = np.random.default_rng(0)
    return cycle(random.normal(0, 3000, (4, 5 * MADE_UP_RATE)).astype(np.int16)), MADE_UP_RATE


def _write_shard(folder: Path, clips: Iterator[np.ndarray], rate: int, seconds: float) -> None:
    kept: list[np.ndarray] = []
    while sum(map(len, kept)) < seconds * rate:
        kept.append(next(clips))
    write_ragged(folder / "audio", kept, "int16", key=f"pcm-{rate}")


if __name__ == "__main__":
    main()
