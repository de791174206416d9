"""Resumable checkpoints: whole tensors in one safetensors artifact, however many processes train and whatever they share.

So a run goes on with another number of processes, or sharded where it was not, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from voicegraft.core.artifacts import artifact_exists, load_artifact, save_artifact
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.processes import is_main_process, num_processes, sum_over_processes, wait_for_all
from voicegraft.train.optimizers import moving_parameters

if TYPE_CHECKING:
    from voicegraft.train.engine import Mover

KIND = "checkpoint"


@dataclass(frozen=True)
class Progress:
    """What a checkpoint folder says of itself."""

    step: int  # steps done
    steps: int  # steps planned
    batches_per_step: int = 1


class Held(Protocol):
    """A tensor of a checkpoint, wherever its parts lie. Every process calls the same methods in the same order."""

    shape: torch.Size  # of the whole

    def whole(self) -> Tensor: ...

    def put(self, value: Tensor) -> None:
        """Takes over a whole value, which every process gives."""


class HeldTensor:
    """A tensor that is whole in every process, or sharded by PyTorch."""

    def __init__(self, tensor: Tensor):
        self._tensor, self.shape = tensor, tensor.shape

    def whole(self) -> Tensor:
        return self._tensor.full_tensor().cpu() if isinstance(self._tensor, DTensor) else self._tensor

    def put(self, value: Tensor) -> None:
        own = self._tensor
        if isinstance(own, DTensor):
            # Every process has read the whole: each takes its part, nothing is sent.
            value = distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
        own.copy_(value)


def save_checkpoint(
    folder: Path, progress: Progress, players: Mapping[str, nn.Module], movers: Mapping[str, Mover]
) -> None:
    """Called by every process: what is sharded is gathered, the main process writes, the others wait."""
    main, tensors = is_main_process(), {}
    for name, held in _live_tensors(players, movers):
        tensor = held.whole()
        if main:
            tensors[name] = tensor
    if main:
        save_artifact(folder, KIND, progress, tensors)
    wait_for_all()


def resume(
    folder: Path,
    planned: Progress,
    players: Mapping[str, nn.Module],
    movers: Mapping[str, Mover],
    device: torch.device,
) -> int:
    """Puts the checkpoint in the folder, if there is one, into players and movers: the number of steps done.

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
    live = dict(_live_tensors(players, movers))
    still = {
        f"{player}/model/{name}"  # older checkpoints held frozen weights that are tied
        for player, module in players.items()
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
        for name, held in live.items():
            held.put(saved.tensors[name])
    return saved.config.step


def _live_tensors(players: Mapping[str, nn.Module], movers: Mapping[str, Mover]) -> Iterator[tuple[str, Held]]:
    """Everything that changes while training: moving parameters, buffers, and the optimizers' moments."""
    for player, module in players.items():
        # The state first: it has FSDP2 take back the whole weights that a validation's forward gathered.
        state = module.state_dict()
        parameters = dict(module.named_parameters(remove_duplicate=False))  # tied weights have two names in the state
        buffers = {name for name, _ in module.named_buffers(remove_duplicate=False)}
        for name, tensor in state.items():
            if name in buffers:
                yield f"{player}/model/{name}", HeldTensor(tensor)
            elif name in parameters and parameters[name].requires_grad:
                yield f"{player}/model/{name}", movers[player].weights(parameters[name])
        names = {parameter: name for name, parameter in moving_parameters(module).items()}
        for kind, parameter, moment, held in movers[player].moments():
            yield f"{player}/{kind}/{names[parameter]}/{moment}", held
