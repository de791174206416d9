"""The one training loop, over Hugging Face Accelerate.

A recipe hands over its modules, a batch for every batch number, and a function from batch to losses. Everything random
is drawn from the batch's number, so a run that is killed at any moment and started again ends with the same weights as
one that never stopped, and several processes, which share the batches of a step among them, with those of one process but
for the order of summation. Adversarial training needs nothing more: each model has a loss of its own, which trains
that model only.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.processes import is_main_process, num_processes, sum_over_processes, take_from_main
from voicegraft.core.runtime import has_bfloat16
from voicegraft.train.checkpoint import Progress, resume, save_checkpoint
from voicegraft.train.config import LoopConfig
from voicegraft.train.engine import join_processes
from voicegraft.train.state import OptimizerWrapper

Batch = Any
Models = Mapping[str, nn.Module]
Losses = dict[str, Tensor]  # model -> scalar
Metrics = dict[str, Tensor]  # name -> scalar, averaged for the log; those named num_... are counted, per second


def own_loss(models: Models, batch: Batch, step: int) -> tuple[Losses, Metrics]:
    """The loss and the metrics that the forward of the only model returns for a batch."""
    ((name, model),) = models.items()
    loss, metrics = model(batch)
    return {name: loss}, metrics


def run(
    config: LoopConfig,
    folder: Path,
    models: Models,
    batch_at: Callable[[int], Batch],
    losses_of: Callable[[Models, Batch, int], tuple[Losses, Metrics]] = own_loss,
    validate: Callable[[int], Mapping[str, float]] | None = None,
) -> bool:
    """Trains the parameters that require gradients, from the last checkpoint in ``folder`` if there is one.

    Args:
        folder: the same one for all processes, on a disk that they share.
        models: name -> module; each is trained by the loss of the same name, with optimizers of its own.
        batch_at: batch number (``step * batches_per_step`` and on) -> batch on this process's device; must depend on the
            number alone.
        losses_of: (models, batch, step) -> (loss per model, metrics to log); which models have a loss must depend on
            the step alone.
        validate: step -> numbers to log, called every ``validate_every`` steps and at the end, by every process, with the
            models in evaluation mode and without gradients.

    Returns:
        True when all steps are done; False when SIGTERM, or another process, stopped it early, after saving.

    Raises:
        KeyboardInterrupt: SIGINT stopped it early, after saving.
        VoicegraftError: a loss is not finite, the checkpoint is of another run or model, or the processes that were
            launched do not divide ``batches_per_step``.
    """
    device, optimizers = join_processes(models, config)
    main, world = is_main_process(), num_processes()
    if config.batches_per_step % world:
        raise VoicegraftError(
            f"{folder.name}: {world} processes cannot share {config.batches_per_step} batches per step evenly: set "
            f"batches_per_step to a multiple of {world}, or launch another number of processes"
        )
    planned = Progress(config.steps, config.steps, config.batches_per_step)
    start = resume(folder / "resume", planned, models, optimizers, device)
    log = SummaryWriter(str(folder / "log"), purge_step=start) if main else None
    for module in models.values():
        module.train()  # whatever a loader left: a resumed run must be in the same mode
    recent = _Recent()
    began = time.monotonic()
    last = start == config.steps
    with (
        _stop_signals() as stopped,
        tqdm(total=config.steps, initial=start, desc=folder.name, unit="step", disable=not main, mininterval=5) as bar,
    ):
        for step in range(start, config.steps):
            means = _gradients(config, step, models, optimizers, batch_at, losses_of, recent, device)
            # All processes must stop at the same step, wherever the signal or the error came up.
            agreed = torch.tensor([*means.values(), float(bool(stopped))], device=device)
            sum_over_processes([agreed])
            stopping = bool(agreed[-1])
            for name, loss in zip(means, (agreed[:-1] / world).tolist(), strict=True):
                if not math.isfinite(loss):
                    raise VoicegraftError(
                        f"{folder.name}: the {name} loss is {loss} at step {step}; lower the learning rate. The "
                        f"checkpoint in {folder / 'resume'} is from before"
                    )
            for name in means:
                recent.add(f"grad_norm/{name}", optimizers[name].step(config.lr * config.lr_at(step)))
            if world > 1:  # moving averages within a module are each process's own: the main one's go on
                take_from_main(buffer for module in models.values() for buffer in module.buffers())
            bar.update()
            done = step + 1
            if done % config.log_every == 0:
                logged = recent.take()
                if log is not None:
                    for key, value in logged.items():
                        log.add_scalar(key, value, done)
                    log.add_scalar("steps_per_sec", (done - start) / (time.monotonic() - began), done)
                bar.set_postfix({k.removeprefix("loss/"): f"{v:.3f}" for k, v in logged.items() if "grad" not in k})
            last = done == config.steps
            if validate is not None and (done % config.validate_every == 0 or last):
                with _evaluating(models):
                    scores = validate(done)
                if log is not None:
                    for key, value in scores.items():
                        log.add_scalar(f"validation/{key}", value, done)
                    tqdm.write(f"{folder.name} {done}: " + " ".join(f"{k} {v:.4f}" for k, v in scores.items()))
            if done % config.save_every == 0 or last or stopping:
                progress = Progress(done, config.steps, config.batches_per_step)
                save_checkpoint(folder / "resume", progress, models, optimizers)
            if stopping and not last:
                if main:
                    tqdm.write(f"{folder.name}: stopped at step {done}; the same command goes on from here")
                break
    for optimizer in optimizers.values():
        optimizer.release()
    if log is not None:
        log.close()
    if signal.SIGINT in stopped and not last:
        raise KeyboardInterrupt
    return last


def _gradients(
    config: LoopConfig,
    step: int,
    models: Models,
    optimizers: Mapping[str, OptimizerWrapper],
    batch_at: Callable[[int], Batch],
    losses_of: Callable[[Models, Batch, int], tuple[Losses, Metrics]],
    recent: _Recent,
    device: torch.device,
) -> dict[str, float]:
    """Leaves the mean gradients of this process's batches of a step in the models; the mean loss of each."""
    world = num_processes()
    share = world / config.batches_per_step
    bf16 = config.precision == "bf16" or (config.precision == "auto" and has_bfloat16(device))
    means: dict[str, float] = {}
    for i in range(dist.get_rank() if world > 1 else 0, config.batches_per_step, world):
        number = step * config.batches_per_step + i
        torch.manual_seed(config.seed * 1_000_003 + number)
        batch = batch_at(number)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            losses, metrics = losses_of(models, batch, step)
        for name, loss in losses.items():
            optimizers[name].backward(loss * share, retain_graph=len(losses) > 1)
            means[name] = means.get(name, 0.0) + float(loss.detach()) * share
            recent.add(f"loss/{name}", loss)
        for name, metric in metrics.items():
            recent.add(name, metric)
    return means


class _Recent:
    """Metrics since the last entry in the log."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}  # name -> sum, how many
        self._since = time.monotonic()

    def add(self, name: str, value: Tensor) -> None:
        total, count = self._sums.get(name, (0.0, 0))
        self._sums[name] = (total + float(value.detach()), count + 1)

    def take(self) -> dict[str, float]:
        """Means over the batches of all processes, and sums per second of what is named ``num_``; begins anew."""
        everybody: list[Any] = [self._sums]
        if num_processes() > 1:
            everybody = [None] * num_processes()
            dist.all_gather_object(everybody, self._sums)
        elapsed, means = time.monotonic() - self._since, {}
        for name in dict.fromkeys(name for sums in everybody for name in sums):
            total, count = map(sum, zip(*(sums[name] for sums in everybody if name in sums), strict=True))
            if name.startswith("num_"):
                means[f"{name.removeprefix('num_')}_per_sec"] = total / elapsed
            else:
                means[name] = total / count
        self._begin()
        return means


@contextmanager
def _evaluating(models: Models) -> Iterator[None]:
    for module in models.values():
        module.eval()
    with torch.inference_mode():
        yield
    for module in models.values():
        module.train()


@contextmanager
def _stop_signals() -> Iterator[Sequence[int]]:
    """Turns the first SIGINT or SIGTERM into a request to save and stop, by its number; the second one acts at once."""
    seen: list[int] = []
    previous: dict[int, Any] = {}

    def note(number: int, frame: object) -> None:
        seen.append(number)
        signal.signal(number, previous[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, note)
    try:
        yield seen
    finally:
        for caught, handler in previous.items():
            signal.signal(caught, handler)
