"""How many processes train one set of modules, as Accelerate's launcher says.

Replicated (its DDP configs): every process holds all modules and gradients are averaged once per step. Sharded (its FSDP2
configs): the frozen weights of a large model are spread over the processes, or all its weights where all are trained; what
is small beside them stays replicated. DeepSpeed's ZeRO, for a single model, is in ``deepspeed_engine``.

The modules are not wrapped: a loss may call any method of them, or one twice, and a batch may leave parameters out. PyTorch's
DDP wrapper allows neither without special cases; it would send gradients while others are still computed, but what
learns here is small.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin, InitProcessGroupKwargs, parse_flag_from_env
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.processes import (
    is_main_process,
    num_processes,
    sum_over_processes,
    take_from_main,
    wait_for_all,
)
from voicegraft.train.config import LoopConfig
from voicegraft.train.deepspeed_engine import ZeroOptimizer, check_fits, check_installed, full_weights
from voicegraft.train.optimizers import make_optimizers, moments, trainable_parameters
from voicegraft.train.state import CheckpointTensor, OptimizerWrapper

_PATIENCE = timedelta(hours=2)  # for what the main process does alone; a process that dies ends the others at once


def launched_sharded() -> bool:
    """Whether Accelerate's launcher was told to shard: a large model is then best left on the CPU until it trains."""
    return _launched_with("FSDP") or _launched_with("DEEPSPEED")


def _launched_with(engine: str) -> bool:
    return parse_flag_from_env(f"ACCELERATE_USE_{engine}")


def join_processes(
    models: Mapping[str, nn.Module], config: LoopConfig
) -> tuple[torch.device, dict[str, OptimizerWrapper]]:
    """Joins the processes launched together, and places the models: this process's device, and each model's optimizers.

    Raises:
        VoicegraftError: the launcher was told to use an engine that cannot train these models.
    """
    if _launched_with("DEEPSPEED"):
        check_fits(models, config)
        device = _join().device
        return device, {name: ZeroOptimizer(module, config, device) for name, module in models.items()}
    device = _place(models)
    return device, {name: TorchOptimizer(module, config) for name, module in models.items()}


def _join() -> PartialState:
    """This process's place among those launched together, which meet at the first call."""
    if _launched_with("DEEPSPEED"):
        check_installed()
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=_PATIENCE)


def _place(models: Mapping[str, nn.Module]) -> torch.device:
    """Replicates or shards the models: the device of this process."""
    on_cpu = next(next(iter(models.values())).parameters()).device.type == "cpu"
    # Mixed precision is the loop's own setting: a checkpoint then means the same under every launcher's config.
    accelerator = Accelerator(
        cpu=on_cpu and not _launched_with("FSDP"),
        mixed_precision="no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )
    for module in models.values():
        if not _is_sharded(module):  # by an earlier round
            take_from_main([p.detach() for p in trainable_parameters(module).values()])
            take_from_main(module.buffers())
    if _launched_with("FSDP"):
        settings = FullyShardedDataParallelPlugin()
        if settings.fsdp_version != 2 or settings.activation_checkpointing:
            raise VoicegraftError(
                "expected fsdp_version: 2 and fsdp_activation_checkpointing: false in Accelerate's config; correct them"
            )
        for module in models.values():
            _shard(module, settings, accelerator.device)
        if any(map(_trains_sharded, models.values())) and len(models) > 1:
            raise VoicegraftError("FSDP2 cannot train all weights of a large model beside a second one; launch DDP")
    return accelerator.device


def _shard(module: nn.Module, settings: FullyShardedDataParallelPlugin, device: torch.device) -> None:
    """Shards a model whose blocks are known over the processes; any other one is moved to the device as it is.

    Blocks are those named in Accelerate's config, or the ones that a Hugging Face model says not to split.
    """
    if _is_sharded(module):
        return
    named = set(settings.transformer_cls_names_to_wrap or ())
    for part in module.modules():
        named |= set(getattr(part, "_no_split_modules", None) or ())
    blocks = [part for part in module.modules() if type(part).__name__ in named]
    trained = set(trainable_parameters(module).values())
    if not blocks:
        module.to(device)
        return
    frozen = any(not p.requires_grad for p in module.parameters())
    # What learns beside a frozen model is small, and unsharded it may be left out by some processes' batches.
    unsharded = trained if frozen else set()
    for parameter in unsharded:
        parameter.data = parameter.data.to(device)
    options: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (num_processes(),)),
        "offload_policy": settings.cpu_offload,
        "ignored_params": unsharded,
    }
    for block in reversed(blocks):  # inner ones first
        fully_shard(block, reshard_after_forward=settings.reshard_after_forward, **options)
    fully_shard(module, **options)


def _is_sharded(module: nn.Module) -> bool:
    return any(isinstance(p, DTensor) for p in module.parameters())


def _trains_sharded(module: nn.Module) -> bool:
    return any(isinstance(p, DTensor) for p in trainable_parameters(module).values())


class TorchOptimizer:
    """Trains a model whose weights are replicated, or sharded by FSDP2."""

    def __init__(self, module: nn.Module, config: LoopConfig):
        self._module, self._largest = module, config.grad_clip
        self._optimizers = make_optimizers(module, config)

    def backward(self, loss: Tensor, retain_graph: bool) -> None:
        # The leaves of a sharded module are gathered copies; a model that trains sharded has no other beside it.
        sharded = _trains_sharded(self._module)
        inputs = None if sharded else list(trainable_parameters(self._module).values())
        loss.backward(inputs=inputs, retain_graph=retain_graph)

    def step(self, lr: float) -> Tensor:
        parameters = list(trainable_parameters(self._module).values())
        _average_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self._largest)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def weights(self, parameter: nn.Parameter) -> CheckpointTensor:
        return CheckpointTensor(parameter.detach())

    def moments(self) -> Iterator[tuple[str, nn.Parameter, str, CheckpointTensor]]:
        for optimizer in self._optimizers:
            kind = type(optimizer).__name__.lower()
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                for moment, tensor in moments(optimizer, parameter).items():
                    yield kind, parameter, moment, CheckpointTensor(tensor)

    def release(self) -> None:
        pass


def _average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces every process's gradients by their mean; sharded ones have it already.

    A parameter that no process's batch reached keeps no gradient, so that no optimizer moves it.
    """
    own = [p for p in parameters if not isinstance(p, DTensor)]
    if num_processes() == 1 or not own:
        return
    found = torch.tensor([float(p.grad is not None) for p in own], device=own[0].device)
    sum_over_processes([found])
    reached = [p for p, count in zip(own, found.tolist(), strict=True) if count]
    for parameter in reached:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in reached if p.grad is not None]
    sum_over_processes(gradients)
    for gradient in gradients:
        gradient /= num_processes()


@contextmanager
def main_first() -> Iterator[None]:
    """The main process goes through the block before the others, which then find what it wrote."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    with PartialState(cpu=not torch.accelerator.is_available(), timeout=_PATIENCE).main_process_first():
        yield


def save_once(model: nn.Module, write: Callable[..., None], *arguments: object) -> None:
    """Calls ``write(*arguments)``, by which the model saves itself, in the main process while the others wait.

    Args:
        model: as ``run`` left it; for ``write`` its trainable parameters are gathered.
    """
    parts = [(m, n, p) for m in model.modules() for n, p in m.named_parameters(recurse=False) if isinstance(p, DTensor)]
    trained = [(m, n, p) for m, n, p in parts if p.requires_grad]
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()  # else the weights that the last forward gathered would be taken for the module's
    for module, name, parameter in trained:
        setattr(module, name, nn.Parameter(parameter.full_tensor()))
    with full_weights(model):
        if is_main_process():
            write(*arguments)
    for module, name, parameter in trained:
        setattr(module, name, parameter)
    wait_for_all()
