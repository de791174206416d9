"""A backbone with its speech expert merged into the weights, as one GGUF file for llama.cpp.

Such a model only speaks: the expert is part of it, so its text is not the backbone's any more. Names of tensors and keys are
those of the ``gguf`` package. The order of query and key rows follows llama.cpp, whose Llama rotates neighbours where
transformers rotates halves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from voicegraft.core.errors import VoicegraftError
from voicegraft.export.extended_vocabulary import fits_ids, grow
from voicegraft.export.huggingface import speech_ids
from voicegraft.fusion.experts import SPEECH
from voicegraft.fusion.speech_lm import SpeechLM

try:
    import gguf
except ImportError:  # the extra "gguf"
    gguf = None  # type: ignore[assignment]

GgufType = Literal["f32", "f16", "q8_0"]
ARCHITECTURES = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}  # model type -> of gguf
# How the pieces of text are cut before merging, by the pattern in tokenizer.json; llama.cpp knows them by name.
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PRE = {_WORDS + r"\p{N}{1,3}" + _REST: "llama-bpe", _WORDS + r"\p{N}" + _REST: "qwen2"}


def export_gguf(lm: SpeechLM, out: Path, dtype: GgufType = "f16", name: str = "speech") -> list[str]:
    """Writes the file; ``lm`` is used up: its backbone and tokenizer grow.

    Args:
        dtype: of matrices; norms and biases are float32, and what q8_0 cannot divide into blocks is float16.
        name: of the model.

    Returns:
        What a user of the file should know, a line each.

    Raises:
        VoicegraftError: the package gguf is missing; the expert is not one that ids can drive; llama.cpp has no such
            architecture in this form; or the file cannot be written.
    """
    if gguf is None:
        raise VoicegraftError("GGUF needs the package gguf: pip install 'voicegraft[gguf]'")
    config = lm.speech_embedding.config
    if not fits_ids(config):
        what = "a guided layout" if config.layout == "guided" else f"{config.frames_per_step} frames per step"
        raise VoicegraftError(
            f"this speech expert has {what}: its positions are sums of rows, which llama.cpp cannot look up by an id; train "
            "one with layout=plain and frames_per_step=1, or export it with --format hf"
        )
    arch = _architecture(lm)
    if not out.parent.is_dir():
        raise VoicegraftError(f"the folder {out.parent} does not exist; make it or name another")
    ids = speech_ids(config, grow(lm))
    part = out.with_name(f".{out.name}.part")
    try:
        writer = gguf.GGUFWriter(part, gguf.MODEL_ARCH_NAMES[arch])
        writer.add_name(name)
        _write_sizes(writer, lm, dtype)
        notes = _write_tokenizer(writer, lm.tokenizer, ids)
        for key in ("say", "advance", "first_code", "num_codes", "first_run", "num_runs"):
            writer.add_uint32(f"voicegraft.{key}", ids[key])
        for voice, token in ids["voices"].items():
            writer.add_uint32(f"voicegraft.voice.{voice}", token)
        _write_tensors(writer, lm, arch, dtype)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        part.replace(out)
    except OSError as error:
        raise VoicegraftError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return notes


def _architecture(lm: SpeechLM) -> Any:
    config: Any = lm.backbone.config
    if config.model_type not in ARCHITECTURES:
        raise VoicegraftError(
            f"GGUF export knows {', '.join(ARCHITECTURES)}, this backbone is a {config.model_type}: use --format hf, or "
            "another backbone"
        )
    if config.hidden_act not in ("silu", "swish"):
        raise VoicegraftError(
            f"llama.cpp computes a {config.model_type} with silu, this backbone has {config.hidden_act}"
        )
    arch = gguf.MODEL_ARCH[ARCHITECTURES[config.model_type]]
    rotary = _rotary(lm)
    kind = config.rope_parameters["rope_type"]
    fixed = kind in ("default", "linear", "llama3") and rotary.attention_scaling == 1
    if not fixed or (kind != "default" and arch != gguf.MODEL_ARCH.LLAMA):
        raise VoicegraftError(
            f"GGUF export does not know rotary positions of type {kind} for a {config.model_type}; use --format hf"
        )
    return arch


def _rotary(lm: SpeechLM) -> Any:
    return cast(Any, lm.backbone.base_model).rotary_emb


def _head_width(lm: SpeechLM) -> int:
    config: Any = lm.backbone.config
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _write_sizes(writer: Any, lm: SpeechLM, dtype: GgufType) -> None:
    config: Any = lm.backbone.config
    # llama.cpp attends to everything in these architectures: within a window that is the same.
    writer.add_context_length(min(config.max_position_embeddings, getattr(config, "sliding_window", None) or 1 << 30))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(_head_width(lm))
    writer.add_value_length(_head_width(lm))
    writer.add_rope_dimension_count(_head_width(lm))
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    kinds = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}
    writer.add_file_type(gguf.LlamaFileType[kinds[dtype]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _write_tensors(writer: Any, lm: SpeechLM, arch: Any, dtype: GgufType) -> None:
    config: Any = lm.backbone.config
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    merged = lm.mole.merged(SPEECH)
    modules = dict(lm.backbone.named_modules())
    for name, parameter in lm.backbone.named_parameters():
        module, _, leaf = name.rpartition(".")
        tensor = merged(modules[module]) if leaf == "weight" else parameter
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        if arch == gguf.MODEL_ARCH.LLAMA and module.endswith(tuple(heads)):
            tensor = _neighbours(tensor, heads[module.rpartition(".")[2]])
        written = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if written is None:
            raise VoicegraftError(f"GGUF has no tensor for {name} of a {config.model_type}; use --format hf")
        array = tensor.detach().float().cpu().numpy()
        kind = _tensor_type(array, dtype)
        writer.add_tensor(written, gguf.quants.quantize(array, kind), raw_dtype=kind)
    slowed = _slowed(lm)
    if not torch.allclose(slowed, torch.ones_like(slowed), rtol=1e-6):
        writer.add_tensor(f"{gguf.TENSOR_NAMES[gguf.MODEL_TENSOR.ROPE_FREQS]}.weight", slowed.numpy())


def _neighbours(tensor: Tensor, num_heads: int) -> Tensor:
    """Rows of queries or keys whose halves of a head are rotated together -> the same with neighbours in their place."""
    halves = tensor.reshape(num_heads, 2, len(tensor) // num_heads // 2, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)


def _slowed(lm: SpeechLM) -> Tensor:
    """How much slower each pair of a head rotates than the base says ``[head width / 2]``: 1 unless positions are scaled."""
    width = _head_width(lm)
    base = float(cast(Any, lm.backbone.config).rope_parameters["rope_theta"])
    unscaled = base ** -(torch.arange(0, width, 2).float() / width)
    return unscaled / _rotary(lm).inv_freq.float().cpu()


def _tensor_type(array: np.ndarray, dtype: GgufType) -> Any:
    kinds = gguf.GGMLQuantizationType
    if array.ndim == 1 or dtype == "f32":
        return kinds.F32
    return kinds.Q8_0 if dtype == "q8_0" and array.shape[-1] % gguf.GGML_QUANT_SIZES[kinds.Q8_0][0] == 0 else kinds.F16


# Tokenizer


def _write_tokenizer(writer: Any, tokenizer: PreTrainedTokenizerBase, ids: dict[str, Any]) -> list[str]:
    notes = []
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    raw = {} if backend is None else json.loads(backend.to_str())
    merges = _merges(raw)
    if not merges:
        writer.add_tokenizer_model("none")
        return ["the text tokenizer is no byte-level BPE: the file has no tokenizer, give llama.cpp token ids"]
    pre = _pre(raw)
    if pre is None:
        pre = "default"
        notes.append("llama.cpp may cut text into other tokens than the backbone's tokenizer: give it token ids")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    names = {token: name for name, token in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    kinds = gguf.TokenType
    writer.add_token_list([names[i] for i in range(len(names))])
    writer.add_token_types(
        [
            kinds.NORMAL if i not in added else kinds.CONTROL if added[i].special else kinds.USER_DEFINED
            for i in range(len(names))
        ]
    )
    writer.add_token_merges(merges)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_add_bos_token(tokenizer.bos_token_id is not None)
    writer.add_eos_token_id(ids["advance"])  # ends an utterance
    writer.add_add_eos_token(False)
    return notes


def _merges(raw: dict[str, Any]) -> list[str]:
    """The merges of a byte-level BPE; none of any other tokenizer."""
    model = raw.get("model", {})
    cuts = _cuts(raw)
    if model.get("type") != "BPE" or model.get("byte_fallback") or not any(c["type"] == "ByteLevel" for c in cuts):
        return []
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]


def _cuts(raw: dict[str, Any]) -> list[dict[str, Any]]:
    cut = raw.get("pre_tokenizer") or {"type": "Sequence", "pretokenizers": []}
    return list(cut["pretokenizers"]) if cut["type"] == "Sequence" else [cut]


def _pre(raw: dict[str, Any]) -> str | None:
    """llama.cpp's name of how text is cut; None if that is not known."""
    cuts = _cuts(raw)
    if any(cut.get("add_prefix_space") for cut in cuts):
        return None
    if len(cuts) == 1 and cuts[0]["use_regex"]:
        return "gpt-2"
    if len(cuts) == 2 and cuts[0]["type"] == "Split" and not cuts[1].get("use_regex"):
        return _PRE.get(cuts[0]["pattern"].get("Regex", ""))
    return None
