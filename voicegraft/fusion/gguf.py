"""Backbones from GGUF files, as llama.cpp has them: multiplied out to a model of transformers, the tokenizer with it."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import transformers
from torch import Tensor
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PretrainedConfig

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import GGUF
from voicegraft.core.library_logging import quietly


class GgufModel(NamedTuple):
    """What a file holds; as what would be saved of the model, it can be loaded in any type."""

    config: PretrainedConfig
    state: dict[str, Tensor]  # float32, tied tensors under all their names
    generation: Any  # settings of generation, such as the tokens that end a text


def gguf_in(place: Path) -> Path | None:
    """The GGUF file that is meant by a path: itself, or the only one of a folder that has no ``config.json``."""
    if place.suffix == GGUF:
        return place
    found = [] if (place / "config.json").is_file() else sorted(place.glob(f"*{GGUF}"))
    return found[0] if len(found) == 1 else None


def gguf_config(file: Path) -> PretrainedConfig:
    """The configuration in the file; weights are not read.

    Raises:
        VoicegraftError: damaged, not of an architecture that transformers reads, or the package ``gguf`` is missing.
    """
    if find_spec("gguf") is None:
        raise VoicegraftError("a GGUF file needs the package gguf: pip install 'voicegraft[gguf]'")
    try:
        with quietly():
            config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
            from gguf import GGUFReader

            names = {tensor.name for tensor in GGUFReader(file).tensors}
    except Exception as error:  # what is wrong with a stranger's file may show anywhere
        if "architecture" in str(error) or "not supported" in str(error):
            raise VoicegraftError(
                f"transformers {transformers.__version__} cannot read {file} ({_line(error)}): take the model's folder of "
                "safetensors, or a GGUF file of another architecture, such as llama, qwen2, qwen3 or gemma3"
            ) from error
        raise VoicegraftError(f"{file} is no whole GGUF file of a text LLM ({_line(error)}); get it anew") from error
    if "rope_freqs.weight" in names and (
        (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default") == "default"
    ):
        raise VoicegraftError(
            f"{file} has scaled positions (rope_freqs), which transformers would lose: take the model's folder of safetensors"
        )
    return config


def read_gguf(file: Path, config: PretrainedConfig) -> GgufModel:
    """The whole model of a file, whose ``gguf_config`` is given: reading that takes seconds.

    Raises:
        VoicegraftError: damaged or incomplete.
    """
    unpacked = {}
    if config_class := getattr(transformers, "GgufConfig", None):  # else it would run on blocks where kernels are there
        unpacked["quantization_config"] = config_class(gguf_file=file.name, dequantize=True)
    try:
        with quietly():
            model, found = cast(Any, MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]).from_pretrained(
                file.parent,
                config=config,
                gguf_file=file.name,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **unpacked,
            )
    except Exception as error:
        raise VoicegraftError(
            f"transformers cannot load {file} ({_line(error)}): it is damaged, or of a shape that its reader does not know; "
            "get it anew, or take the model's folder of safetensors"
        ) from error
    if missing := sorted(found["missing_keys"]):
        raise VoicegraftError(f"{file} is incomplete: {missing[0]} is missing; get it anew")
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # it is not quantized any more
    return GgufModel(config, model.state_dict(), model.generation_config)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
