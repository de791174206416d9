"""What decoding piece by piece costs, as ratios to the model's own decode in one go, measured side by side in one run.

    python -m benchmarks.codecs [codec=FOLDER] [seconds=4] [chunks=[1,5]] [out=FILE.json]

Without a codec it takes random models of the published sizes: time does not depend on what the weights are.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, DacConfig, EncodecConfig, MimiConfig

from benchmarks.harness import ratio, report, take_turns
from voicegraft.core.runtime import seed_all, single_thread
from voicegraft.recipes.command import recipe_config
from voicegraft.tokenizers.hf_codec import HfCodec


@dataclass(frozen=True)
class BenchCodecsConfig:
    codec: str = ""  # what `HfCodec.save` wrote; empty: every family, random
    seconds: float = 4.0  # of sound per decode
    chunks: tuple[int, ...] = (1, 5)  # frames per step
    rounds: int = 5  # everything takes turns this often; the medians count
    out: str = ""  # JSON file; empty: standard output only


def main(argv: list[str] | None = None) -> None:
    single_thread()
    config = recipe_config(BenchCodecsConfig, __doc__, argv)
    report({name: bench(make(), config) for name, make in _codecs(config).items()}, config.out)


def _codecs(config: BenchCodecsConfig) -> dict[str, Callable[[], HfCodec]]:
    if config.codec:
        return {Path(config.codec).name: lambda: HfCodec.load(Path(config.codec))}

    def random(published: Any) -> HfCodec:
        seed_all(0)
        return HfCodec(AutoModel.from_config(published), num_codebooks=8)

    return {
        "Mimi": lambda: random(MimiConfig()),
        "EnCodec, 24 kHz": lambda: random(EncodecConfig()),
        "DAC, 24 kHz": lambda: random(
            DacConfig(sampling_rate=24_000, downsampling_ratios=[2, 4, 5, 8], n_codebooks=32)
        ),
        "DAC, 44.1 kHz": lambda: random(DacConfig(sampling_rate=44_100)),
    }


@torch.inference_mode()
def bench(codec: HfCodec, config: BenchCodecsConfig) -> dict[str, Any]:
    """CPU time of the model's own decode of random frames, and of ours as multiples of it."""
    num_frames = max(1, round(config.seconds * codec.sample_rate / codec.hop))
    latents = torch.randn(1, codec.codebooks.shape[-1], num_frames, generator=torch.Generator().manual_seed(0))
    sizes = {f"{chunk} per step": chunk for chunk in config.chunks} | {"all at once": num_frames}
    engines = {name: partial(_in_steps, codec, latents, size) for name, size in sizes.items()}
    wanted = _own(codec, latents)
    differences = [(engine()[:, : wanted.shape[-1]] - wanted).abs().max() for engine in engines.values()]
    turns = take_turns({"own": partial(_own, codec, latents), **engines}, config.rounds)
    own = statistics.median(turns["own"])
    return {
        "sample_rate": codec.sample_rate,
        "hop": codec.hop,
        "width": codec.codebooks.shape[-1],
        "ahead": codec.ahead,
        "first": codec.first,
        "num_frames": num_frames,
        "own_frame_ms": round(1000 * own / num_frames, 3),
        "own_real_time_factor": round(own * codec.sample_rate / codec.hop / num_frames, 3),
        "ratio_to_own": {name: ratio(turns, name, "own") for name in engines},
        "largest_difference": float(max(differences) / wanted.abs().max()),  # as a share of the loudest sample
    }


def _own(codec: HfCodec, latents: Tensor) -> Tensor:
    found = codec.model.decoder(latents)
    samples: Tensor = getattr(found, "audio_values", found)
    return samples[:, 0]


def _in_steps(codec: HfCodec, latents: Tensor, size: int) -> Tensor:
    state, out = codec.start(), []
    for part in latents.split(size, -1):
        samples, state = codec.step(part, state)
        out.append(samples)
    return torch.cat([*out, codec.finish(state)], -1)


if __name__ == "__main__":
    main()
