"""How a model is trained: steps, learning rates, optimizer, precision, and how often it is logged, saved and validated."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class LoopConfig:
    steps: int = 1000  # optimiser steps in all
    batches_per_step: int = 1  # whose mean gradient a step takes, of all processes together
    lr: float = 1e-3  # peak learning rate
    warmup_steps: int = 50  # linear, from zero
    final_lr: float = 0.05  # share of the peak that the cosine ends at
    weight_decay: float = 0.01  # on matrices; vectors (norms, biases) have none
    optimizer: str = "adamw"  # or "muon": Muon for hidden matrices, AdamW for the rest, at the same learning rate
    betas: tuple[float, float] = (0.9, 0.98)  # AdamW
    grad_clip: float = 1.0  # largest gradient norm of each model
    precision: str = "auto"  # "bf16" autocast, "no", or "auto": bf16 where the device computes in it natively
    seed: int = 0
    log_every: int = 20  # steps
    save_every: int = 200  # steps between resumable checkpoints
    validate_every: int = 500  # steps

    def __post_init__(self) -> None:
        if self.steps < 1 or self.warmup_steps < 0:
            raise ValueError(f"steps must be positive and warmup_steps not negative: {self.steps}, {self.warmup_steps}")
        if self.batches_per_step < 1:
            raise ValueError(f"batches_per_step must be at least 1, got {self.batches_per_step}")
        if min(self.log_every, self.save_every, self.validate_every) < 1:
            raise ValueError("log_every, save_every and validate_every count steps: each must be at least 1")
        if self.precision not in ("auto", "bf16", "no"):
            raise ValueError(f"precision must be auto, bf16 or no, got {self.precision!r}")
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer must be adamw or muon, got {self.optimizer!r}")

    def lr_at(self, step: int) -> float:
        """Share of the peak learning rate at a step: linear warm-up, then half a cosine."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
