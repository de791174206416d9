"""Speed of training the speech expert, against Hugging Face's Trainer with PEFT, side by side in one run.

    python -m benchmarks.training [size=cpu] [vocab_size=128256] [data=RECORDINGS] [layout=guided] [out=FILE.json]
    python -m benchmarks.training device=cuda size=llama-3-8b rank=128 sequence=4096 dtype=bfloat16 \\
        gradient_checkpointing=true

Equal random backbone, LoRA, sequences, sequences per step, optimiser and precision. Engines take turns of a few steps; a ratio
is the median over the turns. What differs between the peer and ours is switched on one thing after the other. A position
counts unless it is padding. On a CPU: one thread, and the process's CPU time; on a GPU: wall time.
"""

from __future__ import annotations

import gc
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from benchmarks.harness import report
from benchmarks.training_engines import (
    Engine,
    JointSoftmax,
    Material,
    PeakMemory,
    Turn,
    engine_clock,
    grown_row,
    our_training,
    peft_training,
)
from benchmarks.training_sequences import (
    cut,
    fitted_recordings,
    long_recordings,
    made_up,
    real_recordings,
    speech_vocabulary,
)
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.runtime import pick_device, single_thread
from voicegraft.fusion.experts import LoraSettings
from voicegraft.fusion.speech_embedding import Layout
from voicegraft.recipes.command import recipe_config

PEER, GROUPED, WHOLE = "Trainer + PEFT", "Trainer + PEFT, group_by_length", "Trainer + PEFT, whole tables"
OURS = "ours"
_POOL = 512  # sequences that batches are drawn from, where no recordings are given


@dataclass(frozen=True)
class Shape:
    vocab_size: int
    width: int
    mlp_width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int


SHAPES = {
    "tiny": Shape(96, 32, 48, 2, 4, 2),
    "cpu": Shape(32_000, 512, 1536, 8, 8, 2),
    "smollm2-135m": Shape(49_152, 576, 1536, 30, 9, 3),
    "llama-3-8b": Shape(128_256, 4096, 14_336, 32, 32, 8),
}


@dataclass(frozen=True)
class BenchTrainingConfig:
    size: str = "cpu"  # of the random backbone: tiny, cpu, smollm2-135m, llama-3-8b
    vocab_size: int = 0  # text tokens; 0: as many as the size has
    data: str = ""  # folder with manifest.jsonl whose texts and durations give the lengths; empty: as LJSpeech's
    layout: Layout = "plain"
    sequence: int = 0  # positions of every sequence; 0: as long as recordings are
    batch: int = 8  # sequences of an optimiser step
    num_codes: int = 4096
    rank: int = 16  # of the LoRA, on all linear layers
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the frozen weights
    precision: Literal["", "no", "bf16"] = ""  # autocast; empty: bf16 if the weights are
    gradient_checkpointing: bool = False
    device: str = "auto"
    breakdown: bool = True  # also the steps between the peer and ours
    turns: int = 3
    warmup_steps: int = 1  # of a turn, not measured
    steps: int = 2  # of a turn, measured
    peak_tflops: float = 989.0  # of the GPU: an H200's for dense bf16
    out: str = ""  # JSON file; empty: standard output only

    def __post_init__(self) -> None:
        if min(self.batch, self.num_codes, self.rank, self.turns, self.steps) < 1:
            raise ValueError("batch, num_codes, rank, turns and steps must each be at least 1")
        if min(self.warmup_steps, self.sequence, self.vocab_size) < 0:
            raise ValueError("warmup_steps, sequence and vocab_size must not be negative")


def main(argv: list[str] | None = None) -> None:
    config = recipe_config(BenchTrainingConfig, __doc__, argv)
    if pick_device(config.device).type == "cpu":
        single_thread()
    results = bench(config)
    report(results, config.out, results["engines"])


def bench(config: BenchTrainingConfig) -> dict[str, Any]:
    device = pick_device(config.device)
    shape = _shape(config)
    backbone = _random_backbone(shape, config, device)
    vocabulary = speech_vocabulary(config.layout, config.num_codes)
    material = _material(config, shape.vocab_size, device)
    lora = LoraSettings(config.rank, config.rank)
    torch.manual_seed(0)
    ours = our_training(backbone, vocabulary, lora, config.layout)
    rows = peft_training(backbone, ours, lora, whole=False)
    whole = peft_training(backbone, ours, lora, whole=True)
    steps = [
        Engine("our loop instead of Trainer", rows, "random"),
        Engine("a speech embedding beside the tables", JointSoftmax(ours, at_targets=False), "random"),
        Engine("logits where there is a target", JointSoftmax(ours, at_targets=True), "random"),
        Engine("softmax over speech alone", ours, "random"),
    ]
    engines = [
        Engine(WHOLE, whole, "random", by_trainer=True),
        Engine(GROUPED, rows, "grouped", by_trainer=True),
        Engine(PEER, rows, "random", by_trainer=True),
        *(steps if config.breakdown else []),
        Engine(OURS, ours, "buckets"),
    ]
    precision = config.precision or ("bf16" if config.dtype == "bfloat16" else "no")
    losses = _losses(engines, material, precision)
    sequence_length = statistics.mean(len(s) for s in material.sequences)
    flops = useful_flops(ours, sequence_length)
    turns, memory = _take_turns(engines, material, config, precision)
    ours_to = {name: _ratio(turns, OURS, name) for name in (WHOLE, GROUPED, PEER)}
    return {
        "config": {name: getattr(config, name) for name in config.__dataclass_fields__},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu, one thread",
        "mean_positions": round(sequence_length, 1),
        "flops_per_position": flops,
        "losses": losses,
        "ours_to": ours_to,
        "bar": {"ours_to": "at least 1", "holds": all(ratio is None or ratio >= 1 for ratio in ours_to.values())},
        "engines": _rows(engines, turns, memory, flops if device.type == "cuda" else None, config),
    }


def _shape(config: BenchTrainingConfig) -> Shape:
    if config.size not in SHAPES:
        raise VoicegraftError(f"expected a size among {', '.join(SHAPES)}, got {config.size!r}")
    shape = SHAPES[config.size]
    return Shape(**{**vars(shape), "vocab_size": config.vocab_size or shape.vocab_size})


def _random_backbone(shape: Shape, config: BenchTrainingConfig, device: torch.device) -> PreTrainedModel:
    torch.manual_seed(0)
    settings = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.width,
        intermediate_size=shape.mlp_width,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
    )
    with device:
        model = AutoModelForCausalLM.from_config(settings, dtype=getattr(torch, config.dtype))
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.checkpoint = SimpleNamespace(fingerprint="random")  # nothing is saved: 16 GB need no digest
    return cast(PreTrainedModel, model.requires_grad_(False))


def _material(config: BenchTrainingConfig, num_text: int, device: torch.device) -> Material:
    if config.sequence:
        recordings = long_recordings(config.batch, config.sequence)
    elif config.data:
        recordings = real_recordings(Path(config.data))
    else:
        recordings = fitted_recordings(_POOL)
    if len(recordings) < config.batch:
        raise VoicegraftError(
            f"expected at least {config.batch} recordings in {config.data}, one for each sequence of a batch, got "
            f"{len(recordings)}: lower batch"
        )
    vocabulary = speech_vocabulary(config.layout, config.num_codes)
    sequences = [made_up(r, vocabulary, num_text, config.layout, i) for i, r in enumerate(recordings)]
    if config.sequence:
        sequences = [cut(s, config.sequence) for s in sequences]
    return Material(sequences, [grown_row(s, num_text) for s in sequences], config.batch, device)


@torch.no_grad()
def _losses(engines: list[Engine], material: Material, precision: str) -> dict[str, float]:
    """Of the same sequence, before anything is trained."""
    with torch.autocast(material.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return {engine.name: float(engine.loss(engine.batch(material, [0]))) for engine in engines}


def useful_flops(training: Any, length: float) -> float:
    """Floating-point operations that the training needs for one position, whoever does it.

    Frozen matrices: forward and the gradient of their input, 4 per weight. LoRA and the speech head, which also have a gradient
    of their own: 6 per weight. Causal attention, half of all pairs: 6 per layer, position and width of the queries. Neither
    recomputing (checkpointing) nor a text softmax counts: the training does not need them.
    """
    body = training.backbone.base_model
    linear = [m.weight for name, m in body.named_modules() if isinstance(m, nn.Linear) and ".lora_" not in name]
    adapters = [p for name, p in body.named_parameters() if ".lora_" in name]
    learned = sum(p.numel() for p in adapters) + training.speech_embedding.head.weight.numel()
    config = training.backbone.config
    attention = 6 * config.num_hidden_layers * config.hidden_size * length
    return float(4 * sum(w.numel() for w in linear) + 6 * learned + attention)


def _take_turns(
    engines: list[Engine], material: Material, config: BenchTrainingConfig, precision: str
) -> tuple[dict[str, list[Turn]], dict[str, int | None]]:
    """Turns of every engine, none where memory did not suffice; and the most memory that each needed."""
    turns: dict[str, list[Turn]] = {engine.name: [] for engine in engines}
    memory: dict[str, int | None] = dict.fromkeys(turns)
    for number in range(config.turns):
        for engine in engines:
            turn = Turn(config.warmup_steps, config.steps, engine_clock(material.device))
            try:
                with PeakMemory(material.device) as peak:
                    engine.turn(material, turn, number, precision)
            except torch.OutOfMemoryError:
                print(f"turn {number + 1}: {engine.name}: out of memory", file=sys.stderr, flush=True)
            else:
                turns[engine.name].append(turn)
                memory[engine.name] = max(peak.bytes or 0, memory[engine.name] or 0) or None
                speed = f"{_speed([turn]):.0f} positions/s"
                print(f"turn {number + 1}: {engine.name}: {speed}", file=sys.stderr, flush=True)
            gc.collect()
            if material.device.type == "cuda":
                torch.cuda.empty_cache()
    return turns, memory


def _speed(turns: list[Turn]) -> float:
    return sum(sum(map(sum, t.batches)) for t in turns) / sum(t.sec for t in turns)


def _ratio(turns: dict[str, list[Turn]], name: str, other: str) -> float | None:
    """How many times as fast: the median over the turns; None where memory did not suffice for one of them."""
    if not turns[name] or not turns[other]:
        return None
    return round(
        statistics.median(_speed([a]) / _speed([b]) for a, b in zip(turns[name], turns[other], strict=False)), 3
    )


def _rows(
    engines: list[Engine],
    turns: dict[str, list[Turn]],
    memory: dict[str, int | None],
    flops: float | None,
    config: BenchTrainingConfig,
) -> list[dict[str, Any]]:
    found = []
    before = PEER
    for engine in engines:
        mine = turns[engine.name]
        batches = [batch for turn in mine for batch in turn.batches]
        row: dict[str, Any] = {
            "engine": engine.name,
            "positions_per_sec": None,
            "to_peer": _ratio(turns, engine.name, PEER),
        }
        if engine.name not in (WHOLE, GROUPED):
            row["to_previous"] = _ratio(turns, engine.name, before)
            before = engine.name
        if mine:
            padded = sum(len(b) * max(b) for b in batches)
            row["positions_per_sec"] = round(_speed(mine), 1)
            row["padding"] = round(1 - sum(map(sum, batches)) / padded, 3)
            row["sequences_per_step"] = round(statistics.mean(map(len, batches)), 1)
            row["memory_gb"] = round((memory[engine.name] or 0) / 1e9, 2) or None
            if flops is not None:
                row["model_flops_utilisation"] = round(_speed(mine) * flops / (1e12 * config.peak_tflops), 3)
        found.append(row)
    return found


if __name__ == "__main__":
    main()
