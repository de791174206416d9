"""Whisper as CTranslate2 keeps it (what users of faster-whisper have), read into the form of transformers.

``model.bin`` holds a version, the kind of model and its revision, then name, shape, type and bytes of every variable, then
names that mean another variable. Every number of the file is checked against what is left of it before anything is made of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from transformers import WhisperConfig, WhisperFeatureExtractor

from voicegraft.core.errors import VoicegraftError

MODEL = "model.bin"
_VERSIONS = range(4, 7)  # of the file format, whose variables are written as they are read here
_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}  # by CTranslate2's numbers
_HEAD_WIDTH = 64  # of every Whisper, where the file does not tell the number of heads
_MAX_RANK = 8


def is_ctranslate2(folder: Path) -> bool:
    """Whether a folder holds a model for CTranslate2, and none of transformers."""
    return (folder / MODEL).is_file() and not any(folder.glob("*.safetensors"))


def read_whisper(folder: Path) -> dict[str, np.ndarray]:
    """The variables of a Whisper by CTranslate2's names, as they are stored.

    Raises:
        VoicegraftError: the file cannot be read, is damaged, truncated, of another version, or no Whisper.
    """
    path = folder / MODEL
    try:
        with path.open("rb") as file:
            return _variables(file, path.stat().st_size)
    except (OSError, ValueError) as error:
        raise VoicegraftError(f"cannot read {path} as a Whisper for CTranslate2: {error}; get it anew") from error


def _variables(file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    def number(code: str) -> int:
        return int(struct.unpack("<" + code, taken(struct.calcsize(code)))[0])

    def taken(count: int) -> bytes:
        if count > size - file.tell():
            raise ValueError(f"it ends before its variables do, at {size} bytes")
        return file.read(count)

    def text() -> str:
        return taken(number("H")).rstrip(b"\0").decode()

    if (version := number("I")) not in _VERSIONS:
        raise ValueError(f"its format is {version}, expected {_VERSIONS[0]} to {_VERSIONS[-1]}")
    if (kind := text()) != "WhisperSpec":
        raise ValueError(f"it is a {kind}")
    number("I")  # revision of the kind
    found: dict[str, np.ndarray] = {}
    for _ in range(number("I")):
        name, rank = text(), number("B")
        shape = [number("I") for _ in range(rank)]
        kind_of_number, count = number("B"), number("I")
        if kind_of_number not in _TYPES or rank > _MAX_RANK:
            raise ValueError(f"{name} is of a type that is not known ({kind_of_number}, {rank} dimensions)")
        values = np.frombuffer(taken(count), _TYPES[kind_of_number])
        if values.size != np.prod(shape, dtype=object):
            raise ValueError(f"{name} has {values.size} values, its shape {shape} says another number")
        found[name] = values.reshape(shape)
    for _ in range(number("I")):  # what equals another variable is not stored twice
        alias, name = text(), text()
        if name not in found:
            raise ValueError(f"{alias} is to be {name}, which is not there")
        found[alias] = found[name]
    return found


def whisper_config(variables: Mapping[str, np.ndarray]) -> WhisperConfig:
    """Sizes as the variables have them, and the ids of Whisper's vocabularies."""
    vocab_size, width = variables["decoder/embeddings/weight"].shape
    english = vocab_size <= 51864
    end = min(50256 if english else 50257, vocab_size - 1)
    shape = {
        f"{side}_{key}": value
        for side in ("encoder", "decoder")
        for key, value in {
            "layers": len({n.split("/")[1] for n in variables if n.startswith(f"{side}/layer_") and n.count("/") > 2}),
            "attention_heads": int(variables.get(f"{side}/num_heads", np.array(width // _HEAD_WIDTH))),
            "ffn_dim": variables[f"{side}/layer_0/ffn/linear_0/bias"].shape[0],
        }.items()
    }
    return WhisperConfig(
        vocab_size=vocab_size,
        d_model=width,
        num_mel_bins=variables["encoder/conv1/weight"].shape[1],
        max_source_positions=variables["encoder/position_encodings/encodings"].shape[0],
        max_target_positions=variables["decoder/position_encodings/encodings"].shape[0],
        decoder_start_token_id=min(end + 1, vocab_size - 1),
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        architectures=["WhisperForConditionalGeneration"],
        **shape,
    )


def whisper_extractor(config: WhisperConfig) -> WhisperFeatureExtractor:
    """How Whisper reads sound; two frames of its mel, of 10 ms, make one of the encoder."""
    seconds = 2 * config.max_source_positions // 100
    return WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=seconds)


def whisper_weights(variables: Mapping[str, np.ndarray]) -> Iterator[tuple[str, Tensor]]:
    """Names and weights as of transformers' ``WhisperModel``; integers are multiplied out."""

    def weight(name: str) -> Tensor:
        values = torch.from_numpy(variables[name].copy())
        if (scale := variables.get(f"{name}_scale")) is not None:
            values = values / torch.from_numpy(scale.reshape(-1, *[1] * (values.ndim - 1)).copy())
        return values

    def norm(source: str, target: str) -> Iterator[tuple[str, Tensor]]:
        yield f"{target}.weight", weight(f"{source}/gamma")
        yield f"{target}.bias", weight(f"{source}/beta")

    def linear(source: str, target: str, *names: str) -> Iterator[tuple[str, Tensor]]:
        """Layers that CTranslate2 keeps as one."""
        for key in ("weight", "bias"):
            for name, values in zip(names, weight(f"{source}/{key}").chunk(len(names)), strict=True):
                if not (key == "bias" and name == "k_proj"):  # there it is zeros
                    yield f"{target}{name}.{key}", values

    for side in ("encoder", "decoder"):
        yield from norm(f"{side}/layer_norm", f"{side}.layer_norm")
        yield f"{side}.embed_positions.weight", weight(f"{side}/position_encodings/encodings")
        for i in range(getattr(whisper_config(variables), f"{side}_layers")):
            theirs, ours = f"{side}/layer_{i}", f"{side}.layers.{i}."
            yield from norm(f"{theirs}/self_attention/layer_norm", f"{ours}self_attn_layer_norm")
            yield from linear(f"{theirs}/self_attention/linear_0", f"{ours}self_attn.", "q_proj", "k_proj", "v_proj")
            yield from linear(f"{theirs}/self_attention/linear_1", f"{ours}self_attn.", "out_proj")
            if side == "decoder":
                yield from norm(f"{theirs}/attention/layer_norm", f"{ours}encoder_attn_layer_norm")
                yield from linear(f"{theirs}/attention/linear_0", f"{ours}encoder_attn.", "q_proj")
                yield from linear(f"{theirs}/attention/linear_1", f"{ours}encoder_attn.", "k_proj", "v_proj")
                yield from linear(f"{theirs}/attention/linear_2", f"{ours}encoder_attn.", "out_proj")
            yield from norm(f"{theirs}/ffn/layer_norm", f"{ours}final_layer_norm")
            yield from linear(f"{theirs}/ffn/linear_0", ours, "fc1")
            yield from linear(f"{theirs}/ffn/linear_1", ours, "fc2")
    for conv in ("conv1", "conv2"):
        yield f"encoder.{conv}.weight", weight(f"encoder/{conv}/weight")
        yield f"encoder.{conv}.bias", weight(f"encoder/{conv}/bias")
    yield "decoder.embed_tokens.weight", weight("decoder/embeddings/weight")
