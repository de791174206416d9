"""Resumable checkpoints: full tensors in one safetensors artifact, however many processes train and whatever they share.

So a run goes on with another number of processes, or sharded where it was not, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from voicegraft.core.artifacts import artifact_exists, load_artifact, save_artifact
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.processes import is_main_process, num_processes, sum_over_processes, wait_for_all
from voicegraft.train.optimizers import trainable_parameters
from voicegraft.train.state import CheckpointTensor, OptimizerWrapper

KIND = "checkpoint"


@dataclass(frozen=True)
class Progress:
    """What a checkpoint folder says of itself."""

    step: int  # steps done
    steps: int  # steps planned
    batches_per_step: int = 1


def save_checkpoint(
    folder: Path, progress: Progress, models: Mapping[str, nn.Module], optimizers: Mapping[str, OptimizerWrapper]
) -> None:
    """Called by every process: what is sharded is gathered, the main process writes, the others wait."""
    main, tensors = is_main_process(), {}
    for name, live in _live_tensors(models, optimizers):
        tensor = live.full()
        if main:
            tensors[name] = tensor
    if main:
        save_artifact(folder, KIND, progress, tensors)
    wait_for_all()


def resume(
    folder: Path,
    planned: Progress,
    models: Mapping[str, nn.Module],
    optimizers: Mapping[str, OptimizerWrapper],
    device: torch.device,
) -> int:
    """Puts the checkpoint in the folder, if there is one, into models and optimizers: the number of steps done.

    Raises:
        VoicegraftError: it belongs to another run or model, is damaged, or not every process sees it.
    """
    saved = load_artifact(folder, KIND, Progress) if artifact_exists(folder) else None
    step = torch.tensor([float(saved.config.step if saved else 0)], device=device)
    own = float(step)
    sum_over_processes([step])
    if float(step) != own * num_processes():
        raise VoicegraftError(
            f"{folder} holds step {own:.0f} here and another one elsewhere: the work folder must be one that all "
            "machines share"
        )
    if saved is None:
        return 0
    if saved.config.steps != planned.steps:
        raise VoicegraftError(
            f"{folder} belongs to a run of {saved.config.steps} steps, this one has {planned.steps}: the learning rates "
            "would not fit. Delete the folder or restore the number"
        )
    if saved.config.batches_per_step != planned.batches_per_step:
        raise VoicegraftError(
            f"{folder} belongs to a run of {saved.config.batches_per_step} batches per step, this one has "
            f"{planned.batches_per_step}: the batches would not go on where they stopped. Delete the folder or restore it"
        )
    live = dict(_live_tensors(models, optimizers))
    still = {
        f"{model}/model/{name}"  # older checkpoints held frozen weights that are tied
        for model, module in models.items()
        for name, parameter in module.named_parameters(remove_duplicate=False)
        if not parameter.requires_grad
    }
    odd = sorted(
        name
        for name in set(live) | (set(saved.tensors) - still)
        if name not in live or name not in saved.tensors or live[name].shape != saved.tensors[name].shape
    )
    if odd:
        raise VoicegraftError(
            f"{folder} belongs to another model (for example {odd[0]}): delete it or use another folder"
        )
    with torch.no_grad():
        for name, tensor in live.items():
            tensor.load(saved.tensors[name])
    return saved.config.step


def _live_tensors(
    models: Mapping[str, nn.Module], optimizers: Mapping[str, OptimizerWrapper]
) -> Iterator[tuple[str, CheckpointTensor]]:
    """Everything that changes while training: trainable parameters, buffers, and the optimizers' moments."""
    for model, module in models.items():
        # The state first: it has FSDP2 reshard the full weights that a validation's forward gathered.
        state = module.state_dict()
        parameters = dict(module.named_parameters(remove_duplicate=False))  # tied weights have two names in the state
        buffers = {name for name, _ in module.named_buffers(remove_duplicate=False)}
        for name, tensor in state.items():
            if name in buffers:
                yield f"{model}/model/{name}", CheckpointTensor(tensor)
            elif name in parameters and parameters[name].requires_grad:
                yield f"{model}/model/{name}", optimizers[model].weights(parameters[name])
        names = {parameter: name for name, parameter in trainable_parameters(module).items()}
        for kind, parameter, moment, tensor in optimizers[model].moments():
            yield f"{model}/{kind}/{names[parameter]}/{moment}", tensor
