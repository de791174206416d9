"""What the fusion costs, as ratios measured side by side in one run, each beside the bar that it is to keep.

    python -m benchmarks.fusion [pack=DIR] [out=FILE.json]

Decoding with experts against the bare backbone and against PEFT's X-LoRA, on a pack's backbone and on a random one with the
proportions of Llama-3-8B. Engines take turns of a few steps, and a ratio is the median over the
turns, of CPU time on one thread: what else runs on the machine hits all alike.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fusion_engines import (
    Case,
    DecodeEngines,
    Engine,
    Proportions,
    Step,
    TwoPasses,
    cached,
    pack_case,
    random_case,
    recomputed,
    xlora,
)
from benchmarks.harness import compared, report, take_turns
from voicegraft.core.library_logging import quietly
from voicegraft.core.runtime import single_thread
from voicegraft.inference.pack import DEFAULT_PACK, read_header
from voicegraft.recipes.command import recipe_config

BOTH, TEXT, XLORA = 1.10, 1.02, 2.0  # bars: at most, at most, at least
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


def main(argv: list[str] | None = None) -> None:
    single_thread()
    config = recipe_config(BenchFusionConfig, __doc__, argv)
    with quietly():
        results = bench(config)
    report(results, config.out, results["bars"])


def bench(config: BenchFusionConfig) -> dict[str, Any]:
    pack = Path(config.pack) if config.pack else DEFAULT_PACK
    backbone, expert = pack / read_header(pack).backbone, pack / "expert"
    results: dict[str, Any] = {"threads": torch.get_num_threads(), "decoding": {}}
    cases: dict[str, tuple[Callable[[Path], Case], int]] = {
        "pack": (partial(pack_case, backbone, expert / "speech"), config.xlora_steps),
        "Llama-3-8B's proportions": (partial(random_case, config.proportions), config.xlora_wide_steps),
    }
    for name, (make, xlora_steps) in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            results["decoding"][name] = decoding(make(Path(folder)), config, xlora_steps)
    results["bars"] = bars(results)
    return results


@torch.inference_mode()
def decoding(case: Case, config: BenchFusionConfig, xlora_steps: int) -> dict[str, Any]:
    """All decode measurements on one backbone."""
    engines = DecodeEngines(case)
    through = engines.through_transformers()
    found: dict[str, Any] = {"adapters_to_backbone": round(case.added_bytes, 3)}
    for size in config.batches:
        turns = decode(through, _ids(case, size, config.prompt + config.steps), config)
        found[f"transformers, batch {size}"] = compared(turns, "backbone")
    ids = _ids(case, 1, config.prompt + config.steps)
    decoders = engines.by_step_decoder()
    found["step decoder"] = compared(decode(decoders, ids, config), "backbone")
    folds = take_turns({"fold": engines.fold}, config.num_folds)["fold"]
    found["folding_ms"] = round(1000 * statistics.median(folds), 1)
    model = xlora(case)
    against = {name: through[name] for name in ("backbone", STEADY, ROUTED)} | {
        "X-LoRA": lambda: recomputed(model),
        "X-LoRA, with two caches added": lambda: cached(model, TwoPasses(case.bare.config)),
    }
    turns = decode(against, ids[:, : config.prompt + xlora_steps], config)
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


def decode(engines: Mapping[str, Engine], ids: Tensor, config: BenchFusionConfig) -> dict[str, list[float]]:
    """Decodes what is behind the prompt in ids ``[B, T]`` by every engine -> its seconds per step, a number for each turn."""
    turns = [range(i, min(i + config.turn, ids.shape[1])) for i in range(config.prompt, ids.shape[1], config.turn)]
    found: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(config.repetitions):
        running = {name: _run(engine(), ids, turns).__next__ for name, engine in engines.items()}
        for name, took in take_turns(running, len(turns), warmup=1).items():
            found[name] += [sec / len(turn) for sec, turn in zip(took, turns, strict=True)]
    return found


def _run(step: Step, ids: Tensor, turns: list[range]) -> Iterator[None]:
    """The prompt, then the positions of one turn after the other."""
    step(ids[:, : turns[0].start])
    yield
    for turn in turns:
        for i in turn:
            step(ids[:, i : i + 1])
        yield


def difference(reference: Engine, engine: Engine, ids: Tensor) -> float:
    """Largest difference of two engines' logits, relative to the largest logit: a prompt, then steps."""
    runs = []
    for step in (reference(), engine()):
        parts = [ids[:, : ids.shape[1] // 2], *ids[:, ids.shape[1] // 2 :].split(1, 1)]
        runs.append(torch.cat([step(part) for part in parts], 1))
    return float((runs[0] - runs[1]).abs().max() / runs[0].abs().max())


def bars(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every ratio that has a bar, beside it."""
    rows: list[dict[str, Any]] = []

    def row(what: str, where: str, ratio: float, *, least: float | None = None, most: float = math.inf) -> None:
        bar = f"at most {most:.2f}" if least is None else f"at least {least:.2f}"
        holds = (least or 0.0) <= ratio <= most
        rows.append({"what": what, "where": where, "ratio": ratio, "bar": bar, "holds": holds})

    for where, found in results["decoding"].items():
        for group in (g for g in found if g.startswith("transformers")):
            for name, numbers in found[group].items():
                if name != "backbone" and not name.startswith("speech"):
                    most = BOTH if name.startswith("both") else TEXT
                    row(f"a step: {name}", f"{where}, {group}", numbers["ratio"], most=most)
        folded = found["step decoder"]["both, folded in"]["ratio"]
        row("a step: both, folded in", f"{where}, step decoder", folded, most=BOTH)
        for name in (n for n in found["X-LoRA"] if n.startswith("X-LoRA")):
            row(f"{name}, to ours with a learned gate", where, found["X-LoRA"][name]["ratio"], least=XLORA)
    return rows


if __name__ == "__main__":
    main()
