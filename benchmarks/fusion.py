"""What the fusion costs, as ratios measured side by side in one run, each beside the bar that it is to keep.

    python -m benchmarks.fusion [pack=DIR] [out=FILE.json]

Decoding with experts against the bare backbone and against PEFT's X-LoRA, on a pack's backbone and on a random one with the
proportions of Llama-3-8B; training against PEFT's own. Engines take turns of a few steps, and a ratio is the median over the
turns, of CPU time on one thread: what else runs on the machine hits all alike.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fusion_engines import (
    Case,
    DecodeEngines,
    Engine,
    Proportions,
    TwoPasses,
    cached,
    pack_case,
    random_case,
    recomputed,
    xlora,
)
from benchmarks.fusion_training import TrainingCase, training_steps
from voicegraft.core.library_logging import quietly
from voicegraft.core.runtime import single_thread
from voicegraft.inference.pack import DEFAULT_PACK, read_header
from voicegraft.recipes.command import recipe_config

BOTH, TEXT, XLORA = 1.10, 1.02, 2.0  # bars: at most, at most, at least
TRAINING = 1.0  # bar: at most
STEADY = "both, the same gates everywhere"
ROUTED = "both, a learned gate for every token"


@dataclass(frozen=True)
class BenchFusionConfig:
    pack: str = ""  # with its backbone; empty: the pocket pack
    out: str = ""  # JSON file; empty: standard output only
    proportions: Proportions = field(default_factory=Proportions)
    prompt: int = 64  # positions before the measured ones
    steps: int = 200  # positions measured in a sequence
    turn: int = 8  # steps of an engine before the next one's turn
    repetitions: int = 2  # sequences
    batches: tuple[int, ...] = (1, 8)
    xlora_steps: int = 64  # positions measured on the pack against X-LoRA, which recomputes all before them
    xlora_wide_steps: int = 4  # on the random backbone, where X-LoRA takes seconds for one
    num_folds: int = 5
    batch_sequences: int = 16  # of a training batch
    sequence_positions: int = 256
    train_steps: int = 6


def main(argv: list[str] | None = None) -> None:
    single_thread()
    config = recipe_config(BenchFusionConfig, __doc__, argv)
    with quietly():
        results = bench(config)
    text = json.dumps(results, indent=2)
    print(text)
    print(table(results["bars"]))
    if config.out:
        Path(config.out).write_text(text + "\n", encoding="utf-8")


def bench(config: BenchFusionConfig) -> dict[str, Any]:
    pack = Path(config.pack) if config.pack else DEFAULT_PACK
    backbone, expert = pack / read_header(pack).backbone, pack / "expert"
    results: dict[str, Any] = {"threads": torch.get_num_threads(), "decoding": {}}
    with ExitStack() as folders:
        folder = Path(folders.enter_context(tempfile.TemporaryDirectory()))
        case = pack_case(backbone, expert / "speech", folder)
        results["decoding"]["pack"] = decoding(case, config, config.xlora_steps)
    with ExitStack() as folders:
        folder = Path(folders.enter_context(tempfile.TemporaryDirectory()))
        case = random_case(config.proportions, folder)
        results["decoding"]["Llama-3-8B's proportions"] = decoding(case, config, config.xlora_wide_steps)
    del case
    results["training"] = training(TrainingCase(backbone, expert), config)
    results["bars"] = bars(results)
    return results


@torch.inference_mode()
def decoding(case: Case, config: BenchFusionConfig, xlora_steps: int) -> dict[str, Any]:
    """All decode measurements on one backbone."""
    engines = DecodeEngines(case)
    through = engines.through_transformers()
    found: dict[str, Any] = {"adapters_to_backbone": round(case.added_bytes, 3)}
    for size in config.batches:
        turns = take_turns(through, _ids(case, size, config.prompt + config.steps), config, config.steps)
        found[f"transformers, batch {size}"] = compared(turns, "backbone")
    ids = _ids(case, 1, config.prompt + config.steps)
    decoders = engines.by_step_decoder()
    found["step decoder"] = compared(take_turns(decoders, ids, config, config.steps), "backbone")
    found["folding_ms"] = round(1000 * statistics.median(_seconds(engines.fold) for _ in range(config.num_folds)), 1)
    model = xlora(case)
    against = {name: through[name] for name in ("backbone", STEADY, ROUTED)} | {
        "X-LoRA": lambda: recomputed(model),
        "X-LoRA, with two caches added": lambda: cached(model, TwoPasses(case.bare.config)),
    }
    turns = take_turns(against, ids[:, : config.prompt + xlora_steps], config, xlora_steps)
    found["X-LoRA"] = compared(turns, ROUTED) | {"positions": [config.prompt, config.prompt + xlora_steps]}
    short = ids[:, :12]
    found["largest_difference"] = {
        "text, identity": difference(through["backbone"], through["text, identity"], short),
        "both, folded in": difference(through[STEADY], decoders["both, folded in"], short),
        "X-LoRA": difference(through[STEADY], against["X-LoRA"], short),
        "X-LoRA, with two caches added": difference(through[STEADY], against["X-LoRA, with two caches added"], short),
    }
    return found


def _ids(case: Case, size: int, length: int) -> Tensor:
    return torch.randint(3, case.bare.config.vocab_size, (size, length), generator=torch.Generator().manual_seed(0))


def take_turns(
    engines: Mapping[str, Engine], ids: Tensor, config: BenchFusionConfig, num_steps: int
) -> dict[str, list[float]]:
    """Decodes the ids ``[B, prompt + num_steps]`` by every engine -> its seconds per step, one number for each turn."""
    names = list(engines)
    found: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(config.repetitions):
        running = {name: engine() for name, engine in engines.items()}
        for step in running.values():
            step(ids[:, : config.prompt])
        for number, begin in enumerate(range(config.prompt, config.prompt + num_steps, config.turn)):
            first = (number + repetition) % len(names)
            positions = range(begin, min(begin + config.turn, ids.shape[1]))
            for name in names[first:] + names[:first]:
                step = running[name]
                took = [_seconds(lambda i=i, step=step: step(ids[:, i : i + 1])) for i in positions]  # type: ignore[misc]
                found[name].append(statistics.median(took))
    return found


def _seconds(call: Callable[[], Any]) -> float:
    """CPU time of this process."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def compared(turns: Mapping[str, list[float]], reference: str) -> dict[str, Any]:
    """Milliseconds and the ratio to the reference, each the median over the turns."""
    return {
        name: {
            "ms": round(1000 * statistics.median(took), 3),
            "ratio": round(statistics.median(a / b for a, b in zip(took, turns[reference], strict=True)), 3),
        }
        for name, took in turns.items()
    }


def difference(reference: Engine, engine: Engine, ids: Tensor) -> float:
    """Largest difference of two engines' logits, relative to the largest logit: a prompt, then steps."""
    runs = []
    for step in (reference(), engine()):
        parts = [ids[:, : ids.shape[1] // 2], *ids[:, ids.shape[1] // 2 :].split(1, 1)]
        runs.append(torch.cat([step(part) for part in parts], 1))
    return float((runs[0] - runs[1]).abs().max() / runs[0].abs().max())


def training(case: TrainingCase, config: BenchFusionConfig) -> dict[str, Any]:
    """Optimiser steps of ours and of PEFT's own on the same sequences."""
    steps = training_steps(case, config.batch_sequences, config.sequence_positions)
    found: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()  # the optimiser makes its state
    for _ in range(config.train_steps):
        for name, step in steps.items():
            found[name].append(_seconds(step))
    fastest = min((n for n in steps if n != "ours"), key=lambda name: statistics.median(found[name]))
    positions = config.batch_sequences * config.sequence_positions
    return compared(found, fastest) | {"reference": fastest, "positions": positions}


def bars(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every ratio that has a bar, beside it."""
    rows: list[dict[str, Any]] = []

    def row(what: str, where: str, ratio: float, least: float | None = None, most: float | None = None) -> None:
        holds = ratio >= least if least is not None else ratio <= (most or 0.0)
        bar = f"at least {least:.2f}" if least is not None else f"at most {most:.2f}"
        rows.append({"what": what, "where": where, "ratio": ratio, "bar": bar, "holds": holds})

    for where, found in results["decoding"].items():
        for group in (g for g in found if g.startswith("transformers")):
            at = f"{where}, {group}"
            for name, numbers in found[group].items():
                if name.startswith("both"):
                    row(f"a step: {name}", at, numbers["ratio"], most=BOTH)
                elif name.startswith("text"):
                    row(f"a step: {name}", at, numbers["ratio"], most=TEXT)
        folded = found["step decoder"]["both, folded in"]["ratio"]
        row("a step: both, folded in", f"{where}, step decoder", folded, most=BOTH)
        for name in (n for n in found["X-LoRA"] if n.startswith("X-LoRA")):
            row(f"{name}, to ours with a learned gate", where, found["X-LoRA"][name]["ratio"], least=XLORA)
    trained = results["training"]
    row(f"a training step, to {trained['reference']}", "pack", trained["ours"]["ratio"], most=TRAINING)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    head = ("what", "where", "ratio", "bar", "")
    lines = [head] + [
        (r["what"], r["where"], f"{r['ratio']:.3f}", r["bar"], "holds" if r["holds"] else "MISSED") for r in rows
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


if __name__ == "__main__":
    main()
