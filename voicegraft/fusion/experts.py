"""Experts: LoRA adapters as PEFT trains and saves them, read as plain matrices.

Only what a sum of ``scale * B A x`` can hold is taken; anything else that PEFT can do (DoRA, biases, new embeddings) is
refused rather than dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from peft import LoraConfig, PeftConfig
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from voicegraft.core.errors import VoicegraftError

ADAPTER_WEIGHTS = "adapter_model.safetensors"  # PEFT's file name
_PREFIX = "base_model.model."


@dataclass(frozen=True, eq=False)
class LowRank:
    """What an expert adds to one linear layer: ``scale * up @ down @ x``."""

    down: Tensor  # [R, in], PEFT's lora_A
    up: Tensor  # [out, R], PEFT's lora_B
    scale: float


@dataclass(frozen=True, eq=False)
class Expert:
    """A LoRA adapter: module name inside the backbone -> what it adds there."""

    layers: Mapping[str, LowRank]

    @staticmethod
    def load(folder: Path) -> Expert:
        """Reads an adapter folder of PEFT (``adapter_config.json`` and safetensors weights).

        Raises:
            VoicegraftError: not such a folder, damaged, or an adapter that is more than a sum of low-rank products.
        """
        weights = folder / ADAPTER_WEIGHTS
        if not weights.is_file():
            raise VoicegraftError(f"no PEFT adapter in {folder}: expected {ADAPTER_WEIGHTS}; check the path")
        try:
            config = PeftConfig.from_pretrained(str(folder))
            tensors = {name: tensor.float() for name, tensor in load_file(weights).items()}
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise VoicegraftError(f"cannot read the PEFT adapter in {folder}: {reason}; get it anew") from error
        if not isinstance(config, LoraConfig):
            raise VoicegraftError(f"the adapter in {folder} is a {type(config).__name__}: experts are plain LoRA")
        odd = [
            name
            for name, used in {
                "use_dora": config.use_dora,
                "bias": config.bias != "none",
                "rank_pattern": config.rank_pattern,
                "alpha_pattern": config.alpha_pattern,
                "modules_to_save": config.modules_to_save,
            }.items()
            if used
        ]
        if odd:
            raise VoicegraftError(f"the adapter in {folder} has {odd[0]}: experts are plain LoRA; train it without")
        scale = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
        layers = {}
        for name, down in tensors.items():
            module, found, _ = name.removeprefix(_PREFIX).partition(".lora_A.")
            if not found:
                if ".lora_B." not in name:
                    raise VoicegraftError(f"the adapter in {folder} holds {name}: expected lora_A and lora_B only")
                continue
            up = tensors.get(name.replace(".lora_A.", ".lora_B."))
            if up is None or up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0]:
                raise VoicegraftError(f"the adapter in {folder} is incomplete at {module}; get it anew")
            layers[module] = LowRank(down, up, scale)
        if not layers:
            raise VoicegraftError(f"the adapter in {folder} holds no LoRA weights; get it anew")
        return Expert(layers)
