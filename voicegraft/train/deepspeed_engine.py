"""One model trained by DeepSpeed's ZeRO, as Accelerate's launcher says: AdamW's moments sharded (stage 2), or the weights
too (stage 3). FSDP2, in ``engine``, covers most of it; this is for clusters that are set up for ZeRO.

The loop's own settings hold: precision, learning rates, clipping, batches per step. Checkpoints are the loop's too, never
DeepSpeed's pickles. Nothing is compiled: AdamW is PyTorch's, and processes on a CPU talk through gloo.
"""

from __future__ import annotations

import copy
import importlib.util
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from accelerate.utils import DeepSpeedPlugin
from torch import Tensor, nn

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.processes import num_processes
from voicegraft.train.config import LoopConfig
from voicegraft.train.optimizers import full_shape, make_optimizers, moments, trainable_parameters
from voicegraft.train.state import CheckpointTensor


def check_installed() -> None:
    """Raises: VoicegraftError: DeepSpeed is not there."""
    if importlib.util.find_spec("deepspeed") is None:
        raise VoicegraftError(
            "expected DeepSpeed, which Accelerate's config asks for, found none: pip install --no-build-isolation "
            "'voicegraft[deepspeed]', or launch with an FSDP2 config"
        )


def check_fits(models: Mapping[str, nn.Module], config: LoopConfig) -> None:
    """Raises: VoicegraftError: the run is none that DeepSpeed can do."""
    if len(models) > 1:
        raise VoicegraftError(
            f"expected one model, which is what DeepSpeed can train, found {', '.join(models)}: launch with a DDP config"
        )
    if config.optimizer != "adamw":
        raise VoicegraftError(
            f"expected optimizer adamw, which is what DeepSpeed can shard, found {config.optimizer}: set it to adamw, "
            "or launch with a DDP or FSDP2 config"
        )


def is_sharded(module: nn.Module) -> bool:
    """Whether the module's weights are sharded over the processes (ZeRO-3)."""
    return any(hasattr(parameter, "ds_id") for parameter in module.parameters())


def full_weights(module: nn.Module) -> AbstractContextManager[object]:
    """Within the block every process holds the full trainable parameters, for reading."""
    if not is_sharded(module):
        return nullcontext()
    import deepspeed

    gathered: AbstractContextManager[object] = deepspeed.zero.GatheredParameters(
        list(trainable_parameters(module).values())
    )
    return gathered


class ZeroOptimizer:
    """Trains a model through a DeepSpeed engine; the methods are those of ``state.OptimizerWrapper``."""

    def __init__(self, module: nn.Module, config: LoopConfig, device: torch.device):
        import deepspeed
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled, for processes on a CPU
        self._device, self._inferred = device, False
        self._trained = list(trainable_parameters(module).values())
        self._gradients: list[Tensor | None] = [None] * len(self._trained)
        settings = _settings(config)
        self._sharded = settings["zero_optimization"]["stage"] == 3
        # What learns beside a frozen model is small, and some batches leave parts of it out, in some processes only. Then
        # full gradients are summed once per step; else sharded with every batch, as DeepSpeed does by itself.
        frozen = any(not p.requires_grad for p in module.parameters())
        self._once = frozen and not self._sharded
        settings["managed_gradient_accumulation"] = self._once
        (adamw,) = make_optimizers(module, config)
        if self._sharded and not is_sharded(module):  # by an earlier round
            # One weight at a time: no GPU need hold all.
            deepspeed.zero.Init(module=module, config_dict_or_path=settings)
            for buffer in module.buffers():
                buffer.data = buffer.data.to(device)
        self._engine, self._zero, *_ = deepspeed.initialize(model=module, optimizer=adamw, config=settings)
        self._adamw: torch.optim.Optimizer = self._zero.optimizer
        if self._sharded:
            self._flat = list(self._zero.fp32_partitioned_groups_flat)
            self._hook = module.register_forward_pre_hook(self._before_forward, prepend=True, with_kwargs=True)
        else:
            self._flat = list(self._zero.single_partition_of_fp32_groups)
        for flat in self._flat:
            moments(self._adamw, flat)  # a checkpoint may be put into them before the first step
        if not self._sharded:
            self._zero._lazy_init_hp_params_optimizer_state()

    def backward(self, loss: Tensor, retain_graph: bool) -> None:
        if not self._once:
            self._zero.clear_backward_seen_flag()  # the gradients are added to those of the batches before
            self._engine.backward(loss, retain_graph=retain_graph, scale_wrt_gas=False)
            return
        for i, new in enumerate(torch.autograd.grad(loss, self._trained, retain_graph=retain_graph, allow_unused=True)):
            before = self._gradients[i]
            self._gradients[i] = before if new is None else new if before is None else before + new

    def step(self, lr: float) -> Tensor:
        if self._once:
            with self._engine.coalesce_grad_reduction():  # sums on leaving, in the same order in every process
                for parameter, gradient in zip(self._trained, self._gradients, strict=True):
                    parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient
            self._gradients = [None] * len(self._trained)
        for group in self._zero.param_groups:
            group["lr"] = lr
        self._engine.step()
        return torch.as_tensor(self._engine.get_global_grad_norm())

    def weights(self, parameter: nn.Parameter) -> CheckpointTensor:
        return _ZeroTensor(parameter)

    def moments(self) -> Iterator[tuple[str, nn.Parameter, str, CheckpointTensor]]:
        for parameter in self._trained:
            yield "adamw", parameter, "step", _Steps([self._adamw.state[flat]["step"] for flat in self._flat])
            for moment in ("exp_avg", "exp_avg_sq"):
                yield "adamw", parameter, moment, _ZeroTensor(parameter, moment)

    def release(self) -> None:
        if self._sharded:
            self._hook.remove()
            self._engine.empty_partition_cache()
            # DeepSpeed leaves these behind, and a next round would take them for its own.
            for part in self._engine.module.modules():
                part.__dict__.pop("pre_bwd_fn", None)
                part.__dict__.pop("post_bwd_fn", None)
        self._engine.module_forward_pre_hook.remove()
        self._engine.module_forward_post_hook.remove()
        self._engine.destroy()

    def _before_forward(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Stops all processes where they would wait for each other's weights for ever."""
        if self._inferred and not torch.is_inference_mode_enabled():
            self._engine.empty_partition_cache()  # weights gathered in a validation are no good for gradients
        self._inferred = torch.is_inference_mode_enabled()
        fields = [sorted(given) if isinstance(given, Mapping) else None for given in (*inputs, *named.values())]
        number = zlib.crc32(repr((fields, list(named))).encode())
        ends = torch.tensor([number, -number], device=self._device)
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        if int(ends[0]) != -int(ends[1]):
            raise VoicegraftError(
                "expected batches of one kind in all processes, since ZeRO-3 gathers weights as they are needed, found "
                "several kinds (text beside speech, say): set zero_stage: 2, launch with an FSDP2 config, or train one kind"
            )


def _settings(config: LoopConfig) -> dict[str, Any]:
    """DeepSpeed's settings: those of Accelerate's config, and the loop's where both have one."""
    settings: dict[str, Any] = copy.deepcopy(DeepSpeedPlugin().deepspeed_config)
    stage = settings["zero_optimization"]["stage"]
    if stage not in (2, 3):
        raise VoicegraftError(
            f"expected zero_stage 2 or 3 in Accelerate's config, found {stage}: correct it, or use DDP"
        )
    for name in ("train_batch_size", "optimizer", "scheduler", "fp16", "bf16", "torch_autocast"):
        settings.pop(name, None)
    return settings | {
        "train_micro_batch_size_per_gpu": 1,  # the loop counts batches and divides their losses
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.grad_clip,
        "zero_force_ds_cpu_optimizer": False,  # PyTorch's AdamW where moments lie on the CPU, too
    }


class _ZeroTensor(CheckpointTensor):
    """A parameter, or one of its moments, of which every process holds a part."""

    def __init__(self, parameter: nn.Parameter, moment: str | None = None):
        super().__init__(parameter, full_shape(parameter))
        self._parameter, self._moment = parameter, moment

    def full(self) -> Tensor:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if self._moment is None:
            found: Tensor = safe_get_full_fp32_param(self._parameter)
        else:
            found = safe_get_full_optimizer_state(self._parameter, self._moment)
        return found.cpu()

    def load(self, value: Tensor) -> None:
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        if hasattr(self._parameter, "ds_id"):
            self._load_own_part(value)
        elif self._moment is None:
            self._parameter.copy_(value)
            safe_set_full_fp32_param(self._parameter, value)
        else:
            safe_set_full_optimizer_state(self._parameter, value, self._moment)

    def _load_own_part(self, value: Tensor) -> None:
        # The counterpart for full values takes none whose size the number of processes does not divide.
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

        parameter: Any = self._parameter
        size = parameter.ds_tensor.numel()
        padded = F.pad(value.flatten(), (0, size * num_processes() - value.numel()))
        own = padded[size * dist.get_rank() :][:size]
        if self._moment is not None:
            safe_set_local_optimizer_state(parameter, own, self._moment)
            return
        safe_set_local_fp32_param(parameter, own)
        parameter.ds_tensor.copy_(own)
        if parameter.numel():  # is gathered just now
            parameter.copy_(value)


class _Steps(CheckpointTensor):
    """How many steps AdamW has taken: one number for all parameters, where other engines count for each."""

    def __init__(self, counts: list[Tensor]):
        super().__init__(counts[0])
        self._counts = counts

    def load(self, value: Tensor) -> None:
        for count in self._counts:
            count.copy_(torch.maximum(count, value))
