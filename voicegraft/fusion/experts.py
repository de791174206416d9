"""Experts: LoRA adapters as PEFT trains and saves them, read as matrices.

Only what a sum of ``scale * B A x`` can hold is taken; anything else that PEFT can do (DoRA, biases, new embeddings) is
refused rather than dropped. Beside PEFT's two files an expert trained here has ``expert.json``, which says what it belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.core.artifacts import file_digest
from voicegraft.core.config import from_dict, to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.hub import Loadable
from voicegraft.fusion.backbone import backbone_fingerprint, one_line, tokenizer_fingerprint
from voicegraft.fusion.depth import decoder_layers

SPEECH, TEXT, LISTENING = "speech", "text", "listening"  # names of experts, and of their adapters
ADAPTER_WEIGHTS = "adapter_model.safetensors"  # PEFT's file name
ADAPTER_CONFIG = "adapter_config.json"
IDENTITY = "expert.json"
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class LoraSettings:
    rank: int = 64
    alpha: int = 64  # the product B A is scaled by alpha / rank
    dropout: float = 0.0
    targets: tuple[str, ...] = ("all-linear",)  # module names, or all-linear: every linear but the text softmax


@dataclass(frozen=True)
class Belongs:
    """What an expert was trained for; fingerprints."""

    backbone: str
    tokenizer: str

    @staticmethod
    def to(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Belongs:
        return Belongs(backbone_fingerprint(backbone), tokenizer_fingerprint(tokenizer))


def attach_lora(backbone: PreTrainedModel, settings: LoraSettings, name: str, num_layers: int = 0) -> PeftModel:
    """A fresh LoRA, to be trained, on a backbone that is frozen from here on.

    Args:
        num_layers: of the decoder that it adapts, from the first on; 0: all.
    """
    targets: str | list[str] = "all-linear" if settings.targets == ("all-linear",) else list(settings.targets)
    if num_layers:
        lower = tuple(f"{layer}." for layer in decoder_layers(backbone)[:num_layers])
        ends = ("",) if targets == "all-linear" else tuple(f".{target}" for target in targets)
        linear = (name for name, module in backbone.named_modules() if isinstance(module, nn.Linear))
        targets = [name for name in linear if name.startswith(lower) and name.endswith(ends)]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(backbone, config, adapter_name=name)


def adapter_state(model: PeftModel, name: str) -> dict[str, Tensor]:
    """The adapter's weights by the names in PEFT's files."""
    return get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)


def take_adapter(model: PeftModel, name: str, folder: Path) -> None:
    """Copies the weights of a saved adapter of the same shape, to go on training from them.

    Raises:
        VoicegraftError: another rank or other targets.
    """
    adapter, state = load_file(folder / ADAPTER_WEIGHTS), adapter_state(model, name)
    if {n: t.shape for n, t in state.items()} != {n: t.shape for n, t in adapter.items()}:
        raise VoicegraftError(f"the LoRA in {folder} has another rank or other targets: set lora to its values")
    with torch.no_grad():
        for key, tensor in state.items():
            tensor.copy_(adapter[key])


def save_lora(model: PeftModel, name: str, folder: Path, belongs: Belongs) -> None:
    """Writes the adapter as PEFT's folder ``folder/name`` in half precision, and what it belongs to."""
    folder.mkdir(parents=True, exist_ok=True)
    # PEFT notes where the backbone lay on this machine; nobody else has it there.
    settings = model.peft_config[name]
    settings.base_model_name_or_path = Path(settings.base_model_name_or_path or "").name
    halves = {key: tensor.detach().half() for key, tensor in adapter_state(model, name).items()}
    model.save_pretrained(str(folder), state_dict=halves, save_embedding_layers=False)
    weights = folder / name / ADAPTER_WEIGHTS
    weights.chmod(0o644)  # comes readable to its owner alone, is to be shared
    identity = {**to_dict(belongs), "sha256": file_digest(weights)}
    write_text(folder / name / IDENTITY, json.dumps(identity, indent=2))


@dataclass(frozen=True)
class _Identity:
    """``expert.json``."""

    backbone: str
    tokenizer: str
    sha256: str  # of the weights file


def trained_on(folder: Path) -> str:
    """Fingerprint of the backbone that an expert says it was trained on; "" if it says nothing that can be read."""
    try:
        return str(json.loads((folder / IDENTITY).read_text(encoding="utf-8"))["backbone"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def check_identity(folder: Path, belongs: Belongs) -> None:
    """Raises VoicegraftError if the expert says that it is altered, or of another backbone or text tokenizer.

    An adapter that PEFT alone trained says nothing; only its shapes are checked then, when it is put on a backbone.
    """
    path = folder / IDENTITY
    if not path.is_file():
        return
    try:
        identity = from_dict(_Identity, json.loads(path.read_text(encoding="utf-8")), origin=str(path))
        digest = file_digest(folder / ADAPTER_WEIGHTS)
    except (OSError, ValueError) as error:
        raise VoicegraftError(f"cannot read the expert in {folder}: {one_line(error)}; get it anew") from error
    if digest != identity.sha256:
        raise VoicegraftError(f"{folder / ADAPTER_WEIGHTS} is damaged: its digest differs from {IDENTITY}; get it anew")
    for what, own, wanted in (
        ("backbone", belongs.backbone, identity.backbone),
        ("text tokenizer", belongs.tokenizer, identity.tokenizer),
    ):
        if own != wanted:
            raise VoicegraftError(
                f"the expert in {folder} was trained with the {what} {wanted}, this one is {own}: use the {what} it was "
                "trained with, or train an expert for this one"
            )


@dataclass(frozen=True, eq=False)
class LowRank:
    """What an expert adds to one linear layer: ``scale * up @ down @ x``."""

    down: Tensor  # [R, in], PEFT's lora_A
    up: Tensor  # [out, R], PEFT's lora_B
    scale: float


@dataclass(frozen=True, eq=False)
class Expert(Loadable):
    """A LoRA adapter: module name inside the backbone -> what it adds there."""

    layers: Mapping[str, LowRank]

    @staticmethod
    def load(folder: Path, belongs: Belongs | None = None) -> Expert:
        """Reads an adapter folder of PEFT (``adapter_config.json`` and safetensors weights).

        Args:
            belongs: the backbone and tokenizer that it must have been trained for.

        Raises:
            VoicegraftError: not such a folder, damaged, of another backbone, or more than a sum of low-rank products.
        """
        weights = folder / ADAPTER_WEIGHTS
        for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):  # PEFT would ask the Hub for what is missing
            if not (folder / name).is_file():
                raise VoicegraftError(f"no PEFT adapter in {folder}: expected {name}, found none; check the path")
        if belongs is not None:
            check_identity(folder, belongs)
        try:
            config = PeftConfig.from_pretrained(str(folder))
            tensors = {name: tensor.float() for name, tensor in load_file(weights).items()}
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise VoicegraftError(
                f"cannot read the PEFT adapter in {folder}: {one_line(error)}; get it anew"
            ) from error
        if not isinstance(config, LoraConfig):
            raise VoicegraftError(f"the adapter in {folder} is a {type(config).__name__}: experts are ordinary LoRA")
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
            raise VoicegraftError(f"the adapter in {folder} has {odd[0]}: experts are ordinary LoRA; train it without")
        rank, alpha = config.r, config.lora_alpha
        if type(rank) is not int or rank < 1 or type(alpha) not in (int, float) or not 0 < alpha < 1e6:
            raise VoicegraftError(
                f"the adapter in {folder} says rank {rank!r:.20}, alpha {alpha!r:.20}: expected positive numbers; get it anew"
            )
        if broken := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
            raise VoicegraftError(
                f"the adapter in {folder} holds numbers that are not finite at {broken[0]}; get it anew"
            )
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
            if len(down) != config.r:
                raise VoicegraftError(
                    f"the adapter in {folder} says rank {config.r}, but its weights have rank {len(down)} at {module}: "
                    "configuration and weights are of two experts; get it anew"
                )
            layers[module] = LowRank(down, up, scale)
        if not layers:
            raise VoicegraftError(f"the adapter in {folder} holds no LoRA weights; get it anew")
        return Expert(layers)
