"""Which parameters of a module are trained, and by which optimizer: AdamW, or Muon for hidden matrices."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from voicegraft.train.config import LoopConfig
from voicegraft.train.muon import Muon


def trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def full_shape(parameter: nn.Parameter) -> torch.Size:
    """The shape of a parameter, also where ZeRO-3 has put its values away and the tensor itself is empty."""
    return cast(torch.Size, getattr(parameter, "ds_shape", parameter.shape))


def hidden_matrices(module: nn.Module) -> set[nn.Parameter]:
    """Weights of linear layers that require gradients, except output layers (``head``, ``lm_head``, ``phone_head``, ...).

    These are what Muon is for; an output layer's rows, like an embedding's, are vectors on their own.
    """
    rows = {m.weight for m in module.modules() if isinstance(m, nn.Embedding)}  # a tied softmax is one too
    linear = [m for name, m in module.named_modules() if isinstance(m, nn.Linear) and not name.endswith("head")]
    return {cast(nn.Parameter, m.weight) for m in linear if m.weight.requires_grad and m.weight not in rows}


def make_optimizers(module: nn.Module, config: LoopConfig) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon and AdamW, over the module's trainable parameters."""
    hidden = hidden_matrices(module) if config.optimizer == "muon" else set()
    parameters = list(trainable_parameters(module).values())
    others = [p for p in parameters if p not in hidden]
    groups = [
        {"params": [p for p in others if len(full_shape(p)) >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in others if len(full_shape(p)) < 2], "weight_decay": 0.0},
    ]
    made: list[torch.optim.Optimizer] = []
    if others:
        made.append(torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, betas=config.betas, eps=1e-9))
    if hidden:
        matrices = [p for p in parameters if p in hidden]
        decay = config.weight_decay
        made.append(Muon(matrices, config.lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    return made


def moments(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """The optimizer's state for a parameter, made first if the optimizer has not taken a step yet."""
    state = optimizer.state[parameter]
    if not state:
        zeros = torch.zeros_like
        if isinstance(optimizer, torch.optim.Muon):
            state.update({"momentum_buffer": zeros(parameter)})
        else:
            state.update({"step": torch.tensor(0.0), "exp_avg": zeros(parameter), "exp_avg_sq": zeros(parameter)})
    return cast(dict[str, Tensor], state)
