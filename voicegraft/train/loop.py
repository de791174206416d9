"""The one training loop, over Hugging Face Accelerate.

A recipe hands over its modules, a batch for every step number, and a function from batch to losses. Everything random
is drawn from the step's number, so a run that is killed at any moment and started again ends with the same weights as
one that never stopped. Adversarial training needs nothing more: each module ("player") has a loss of its own, and a
loss moves its own player only.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from voicegraft.core.artifacts import artifact_exists, load_artifact, save_artifact
from voicegraft.core.errors import VoicegraftError

Batch = Any
Losses = dict[str, Tensor]  # player -> scalar
Metrics = dict[str, Tensor]  # name -> scalar, averaged for the log


@dataclass(frozen=True)
class LoopConfig:
    steps: int = 1000  # optimiser steps in all
    lr: float = 1e-3  # peak learning rate
    warmup_steps: int = 50  # linear, from zero
    final_lr: float = 0.05  # share of the peak that the cosine ends at
    weight_decay: float = 0.01  # on matrices; vectors (norms, biases) have none
    optimizer: str = "adamw"  # or "muon": Muon for hidden matrices, AdamW for the rest, at the same learning rate
    betas: tuple[float, float] = (0.9, 0.98)  # AdamW
    grad_clip: float = 1.0  # largest gradient norm per player
    precision: str = "bf16"  # "bf16" autocast or "no"
    seed: int = 0
    log_every: int = 20  # steps
    save_every: int = 200  # steps between resumable checkpoints
    validate_every: int = 500  # steps

    def __post_init__(self) -> None:
        if self.steps < 1 or self.warmup_steps < 0:
            raise ValueError(f"steps must be positive and warmup_steps not negative: {self.steps}, {self.warmup_steps}")
        if min(self.log_every, self.save_every, self.validate_every) < 1:
            raise ValueError("log_every, save_every and validate_every count steps: each must be at least 1")
        if self.precision not in ("bf16", "no"):
            raise ValueError(f"precision must be bf16 or no, got {self.precision!r}")
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer must be adamw or muon, got {self.optimizer!r}")

    def lr_at(self, step: int) -> float:
        """Share of the peak learning rate at a step: linear warm-up, then half a cosine."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@dataclass(frozen=True)
class Progress:
    """What a checkpoint folder says of itself."""

    step: int  # steps done
    steps: int  # steps planned


def run(
    config: LoopConfig,
    folder: Path,
    players: Mapping[str, nn.Module],
    batch_at: Callable[[int], Batch],
    losses_of: Callable[[Mapping[str, nn.Module], Batch, int], tuple[Losses, Metrics]],
    validate: Callable[[int], Mapping[str, float]] | None = None,
) -> bool:
    """Trains the parameters that require gradients, from the last checkpoint in ``folder`` if there is one.

    Args:
        players: name -> module; each is moved by the loss of the same name, by optimizers of its own.
        batch_at: step number (times processes, plus rank) -> batch on any device; must depend on the number alone.
        losses_of: (players, batch, step) -> (loss per player, metrics to log).
        validate: step -> numbers to log, called every ``validate_every`` steps and at the end.

    Returns:
        True when all steps are done; False when SIGINT or SIGTERM stopped it early, after saving.
    """
    on_cpu = next(next(iter(players.values())).parameters()).device.type == "cpu"
    accelerator = Accelerator(cpu=on_cpu)
    names = list(players)
    modules = dict(
        zip(
            names,
            accelerator.prepare(*players.values()) if len(names) > 1 else [accelerator.prepare(players[names[0]])],
            strict=True,
        )
    )
    optimizers = {name: _optimizers(module, config) for name, module in players.items()}
    start = _resume(folder / "resume", config, players, optimizers)
    log = SummaryWriter(str(folder / "log"), purge_step=start) if accelerator.is_main_process else None
    for module in players.values():
        module.train()  # whatever a validation or a loader left: a resumed run must be in the same mode
    recent: dict[str, float] = {}
    num_recent = 0
    began = time.monotonic()
    last = start == config.steps
    with (
        _stop_signals() as stopped,
        tqdm(
            total=config.steps,
            initial=start,
            desc=folder.name,
            unit="step",
            disable=not accelerator.is_main_process,
            mininterval=5,
        ) as bar,
    ):
        for step in range(start, config.steps):
            torch.manual_seed(config.seed * 1_000_003 + step)
            batch = batch_at(step * accelerator.num_processes + accelerator.process_index)
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                losses, metrics = losses_of(modules, batch, step)
            for name, loss in losses.items():
                if not torch.isfinite(loss):
                    raise VoicegraftError(
                        f"{folder.name}: the {name} loss is {loss.item()} at step {step}; lower the learning rate. The "
                        f"checkpoint in {folder / 'resume'} is from before"
                    )
                parameters = list(moving_parameters(players[name]).values())
                accelerator.backward(loss, inputs=parameters, retain_graph=len(losses) > 1)
            for name in losses:
                metrics[f"grad_norm/{name}"] = torch.nn.utils.clip_grad_norm_(
                    moving_parameters(players[name]).values(), config.grad_clip
                )
                for optimizer in optimizers[name]:
                    for group in optimizer.param_groups:
                        group["lr"] = config.lr * config.lr_at(step)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
            for key, tensor in {**{f"loss/{n}": v for n, v in losses.items()}, **metrics}.items():
                recent[key] = recent.get(key, 0.0) + float(tensor.detach())
            num_recent += 1
            bar.update()
            done = step + 1
            if done % config.log_every == 0 and log is not None:
                means = {key: value / num_recent for key, value in recent.items()}
                recent, num_recent = {}, 0
                for key, value in means.items():
                    log.add_scalar(key, value, done)
                log.add_scalar("steps_per_sec", (done - start) / (time.monotonic() - began), done)
                bar.set_postfix({k.removeprefix("loss/"): f"{v:.3f}" for k, v in means.items() if "grad" not in k})
            last = done == config.steps
            if validate is not None and log is not None and (done % config.validate_every == 0 or last):
                scores = validate(done)
                for key, value in scores.items():
                    log.add_scalar(f"validation/{key}", value, done)
                tqdm.write(f"{folder.name} {done}: " + " ".join(f"{k} {v:.4f}" for k, v in scores.items()))
            if (done % config.save_every == 0 or last or stopped()) and accelerator.is_main_process:
                _save(folder / "resume", config, done, players, optimizers)
            if stopped() and not last:
                tqdm.write(f"{folder.name}: stopped at step {done}; the same command goes on from here")
                break
    if log is not None:
        log.close()
    return last


def moving_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def hidden_matrices(module: nn.Module) -> set[nn.Parameter]:
    """Weights of linear layers that require gradients, except output layers (``head``, ``lm_head``, ``phone_head``, ...).

    These are what Muon is for; an output layer's rows, like an embedding's, are vectors on their own.
    """
    rows = {m.weight for m in module.modules() if isinstance(m, nn.Embedding)}  # a tied softmax is one too
    linear = [m for name, m in module.named_modules() if isinstance(m, nn.Linear) and not name.endswith("head")]
    return {cast(nn.Parameter, m.weight) for m in linear if m.weight.requires_grad and m.weight not in rows}


def _optimizers(module: nn.Module, config: LoopConfig) -> list[torch.optim.Optimizer]:
    hidden = hidden_matrices(module) if config.optimizer == "muon" else set()
    parameters = list(moving_parameters(module).values())
    others = [p for p in parameters if p not in hidden]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    made: list[torch.optim.Optimizer] = []
    if others:
        made.append(torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, betas=config.betas, eps=1e-9))
    if hidden:
        matrices = [p for p in parameters if p in hidden]
        decay = config.weight_decay
        made.append(torch.optim.Muon(matrices, config.lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    return made


def _live_tensors(
    players: Mapping[str, nn.Module], optimizers: Mapping[str, list[torch.optim.Optimizer]]
) -> Iterator[tuple[str, Tensor]]:
    """Everything that changes while training: moving parameters, buffers, and the optimizers' moments."""
    for player, module in players.items():
        moving = moving_parameters(module)
        frozen = {name for name, _ in module.named_parameters()} - set(moving)
        for name, tensor in module.state_dict().items():
            if name not in frozen:
                yield f"{player}/model/{name}", tensor
        names = {parameter: name for name, parameter in moving.items()}
        for optimizer in optimizers[player]:
            kind = type(optimizer).__name__.lower()
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                state = optimizer.state[parameter]
                if not state:
                    state.update(_fresh_state(optimizer, parameter))
                for moment, tensor in state.items():
                    yield f"{player}/{kind}/{names[parameter]}/{moment}", tensor


def _fresh_state(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """What the optimizer would make at its first step: there must be something to load a checkpoint into."""
    zeros = torch.zeros_like
    if isinstance(optimizer, torch.optim.Muon):
        return {"momentum_buffer": zeros(parameter)}
    return {"step": torch.tensor(0.0), "exp_avg": zeros(parameter), "exp_avg_sq": zeros(parameter)}


def _save(
    folder: Path,
    config: LoopConfig,
    step: int,
    players: Mapping[str, nn.Module],
    optimizers: Mapping[str, list[torch.optim.Optimizer]],
) -> None:
    save_artifact(folder, "checkpoint", Progress(step, config.steps), dict(_live_tensors(players, optimizers)))


def _resume(
    folder: Path,
    config: LoopConfig,
    players: Mapping[str, nn.Module],
    optimizers: Mapping[str, list[torch.optim.Optimizer]],
) -> int:
    if not artifact_exists(folder):
        return 0
    saved = load_artifact(folder, "checkpoint", Progress)
    if saved.config.steps != config.steps:
        raise VoicegraftError(
            f"{folder} belongs to a run of {saved.config.steps} steps, this one has {config.steps}: the learning rates "
            "would not fit. Delete the folder or restore the number"
        )
    live = dict(_live_tensors(players, optimizers))
    if set(live) != set(saved.tensors):
        odd = sorted(set(live) ^ set(saved.tensors))[0]
        raise VoicegraftError(f"{folder} belongs to another model (for example {odd}): delete it or use another folder")
    with torch.no_grad():
        for name, tensor in live.items():
            tensor.copy_(saved.tensors[name])
    return saved.config.step


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT or SIGTERM into a request to save and stop; the second one acts at once."""
    seen: list[int] = []
    previous: dict[int, Any] = {}

    def note(number: int, frame: object) -> None:
        seen.append(number)
        signal.signal(number, previous[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, note)
    try:
        yield lambda: bool(seen)
    finally:
        for held, handler in previous.items():
            signal.signal(held, handler)
