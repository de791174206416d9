"""Text LLMs as they come: by folder, GGUF file or name on the Hugging Face Hub, told apart by their weights."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

import transformers
from safetensors import safe_open
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from voicegraft.core.artifacts import fingerprint
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import GGUF, resolve
from voicegraft.core.library_logging import quietly
from voicegraft.data.chat import stop_ids
from voicegraft.fusion.gguf import gguf_config, gguf_in, read_gguf

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"  # the file names of transformers


@dataclass(frozen=True)
class BackboneSettings:
    """How a backbone is held in memory. Whatever it is, the same experts fit: they belong to the checkpoint."""

    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"  # auto: as the checkpoint was saved
    quantization: Literal["", "4bit"] = ""  # 4bit: linear layers in four bits a weight (NF4 of bitsandbytes)
    # In training, a layer's inner values are computed again in the backward pass: less memory, a third slower.
    gradient_checkpointing: bool = False
    attention: Literal["", "eager", "sdpa", "flash_attention_2", "flex_attention"] = ""  # empty: transformers chooses


def load_backbone(
    name_or_path: str | Path, settings: BackboneSettings | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Any causal LM that transformers knows, from safetensors or a GGUF file, without remote code.

    Args:
        name_or_path: a folder, a GGUF file, or a name on the Hub (see ``core.hub.resolve``).
        settings: float32 if not given.

    Raises:
        VoicegraftError: not to be had, not a causal LM of text, incomplete, damaged, or without its tokenizer.
    """
    settings = settings or BackboneSettings()
    folder = resolve(name_or_path)
    file = gguf_in(folder)
    config = _check_config(file or folder)
    if settings.quantization and find_spec("bitsandbytes") is None:
        raise VoicegraftError("4bit needs bitsandbytes: pip install 'voicegraft[quantization]'")
    held = read_gguf(file, config) if file else None
    try:
        with quietly():
            # A GGUF file has been read: transformers is given what it holds, as if it had been saved in a folder.
            loader = MODEL_FOR_CAUSAL_LM_MAPPING[type(held.config)] if held else AutoModelForCausalLM
            model, found = cast(Any, loader).from_pretrained(
                None if held else folder,
                **({"config": held.config, "state_dict": dict(held.state)} if held else {}),
                dtype=settings.dtype,
                quantization_config=_four_bits(settings),
                attn_implementation=settings.attention or None,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # what a library makes of a stranger's file may be anything
        raise VoicegraftError(
            f"{folder} is not a causal LM that transformers can load ({one_line(error)}); expected config.json, "
            "safetensors weights and a tokenizer"
        ) from error
    if missing := sorted(found["missing_keys"]):  # transformers makes them up
        raise VoicegraftError(
            f"{folder} is incomplete: {len(missing)} weights are missing ({missing[0]}, ...); get it anew, or name a "
            "checkpoint of the whole causal LM"
        )
    tokenizer = _load_tokenizer(file or folder)
    ends = getattr(model.generation_config, "eos_token_id", None)
    if not all(isinstance(end, int) for end in (ends if isinstance(ends, list) else [ends or 0])):
        raise VoicegraftError(
            f"{folder / 'generation_config.json'} says that {ends!r:.80} ends a text: expected token ids"
        )
    if settings.gradient_checkpointing:
        with quietly():
            model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": _contexts})
    model.checkpoint = Checkpoint(folder, _tied(model))
    if held:
        model.generation_config = held.generation
        model.checkpoint = _Read(fingerprint(held.state))
    return model.eval(), tokenizer


def load_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a backbone, whose weights are not read; name and errors as of ``load_backbone``."""
    folder = resolve(name_or_path)
    return _load_tokenizer(gguf_in(folder) or folder)


def check_backbone(folder: Path) -> None:
    """Raises VoicegraftError unless the folder says that it is a causal LM of text which transformers has a class for, and
    holds weights, which are not read, and a tokenizer; or that it is such a GGUF file."""
    folder = gguf_in(folder) or folder
    _check_config(folder)
    if folder.suffix != GGUF and not any((folder / name).is_file() for name in (_SINGLE, _INDEX)):
        raise VoicegraftError(
            f"{folder} holds no safetensors weights of a text LLM: expected {_SINGLE} or {_INDEX}; check the path"
        )
    _load_tokenizer(folder)


def _check_config(folder: Path) -> PretrainedConfig:
    """Raises VoicegraftError unless the folder, or GGUF file, is by its word a causal LM of text that transformers has."""
    config = gguf_config(folder) if folder.suffix == GGUF else _folder_config(folder)
    if (problem := _not_causal(config)) is not None:
        raise VoicegraftError(f"{folder} is {problem}: take a causal LM of text alone (AutoModelForCausalLM)")
    return config


def _folder_config(folder: Path) -> PretrainedConfig:
    path = folder / "config.json"
    if not path.is_file():
        raise VoicegraftError(
            f"expected the folder of a text LLM at {folder}, found no config.json there; check the path"
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        kind = raw["model_type"] if raw.get("model_type") in CONFIG_MAPPING else None
        with quietly():
            config = (
                AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False) if kind else None
            )
    except Exception as error:  # what a library makes of a stranger's file may be anything
        raise VoicegraftError(f"cannot read {path}: {one_line(error)}; get it anew") from error
    if config is None:
        if "auto_map" in raw:
            raise VoicegraftError(
                f"{folder} needs program code of its own (auto_map), which is never run: take a model of an architecture "
                "that transformers has"
            )
        raise VoicegraftError(
            f"transformers {transformers.__version__} has no architecture {raw.get('model_type')!r}, which {path} names: "
            "upgrade transformers, or take another model"
        )
    return config


def _not_causal(config: PretrainedConfig) -> str | None:
    """What it is instead; None for a causal LM."""
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    said = list(config.architectures or [])
    if model_class is None or config.is_encoder_decoder:
        return f"a {config.model_type}, not a causal LM"
    if config.get_text_config() is not config:
        if model_class.config_class is type(config):
            return f"a {config.model_type}, which reads more than text"
    elif said and not set(said) & set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()):
        return f"a {said[0]}, not a causal LM"
    return None


def _four_bits(settings: BackboneSettings) -> BitsAndBytesConfig | None:
    if not settings.quantization:
        return None
    # What the layers compute in follows their input where the checkpoint decides.
    compute = None if settings.dtype == "auto" else settings.dtype
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
    )


def _says_it_all(folder: Path) -> bool:
    """Whether ``tokenizer.json`` is the whole tokenizer, by its own word.

    ``AutoTokenizer`` would take the class of the model's family even then, which cuts text its own way and adds tokens.
    """
    try:
        said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("tokenizer_class")
    except (OSError, ValueError, AttributeError):
        return False  # whoever reads it next tells what is wrong
    generic = said in ("PreTrainedTokenizerFast", "TokenizersBackend")
    return generic and (folder / "tokenizer.json").is_file()


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Of a folder, or of a GGUF file."""
    try:
        with quietly():
            reader = PreTrainedTokenizerFast if _says_it_all(folder) else AutoTokenizer
            where, named = (folder.parent, folder.name) if folder.suffix == GGUF else (folder, None)
            tokenizer = reader.from_pretrained(where, local_files_only=True, trust_remote_code=False, gguf_file=named)
            tokenizer("a")
    except Exception as error:  # each kind of tokenizer file has a reader of its own
        missing = [p for p in ("sentencepiece", "tiktoken", "protobuf") if p in str(error)]
        has_one = any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))
        if has_one and missing:
            raise VoicegraftError(
                f"the tokenizer in {folder} needs another package: pip install {' '.join(missing)} ({one_line(error)})"
            ) from error
        raise VoicegraftError(
            f"{folder} has no tokenizer that transformers can load ({one_line(error)}); expected tokenizer.json"
        ) from error
    if not tokenizer.get_vocab():
        raise VoicegraftError(f"{folder} has no tokenizer; expected tokenizer.json")
    return tokenizer


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What a checkpointed layer runs in: at first, and when it is computed again.

    That happens in another thread on a GPU, which would not see the context variables that say where experts act.
    """
    return nullcontext(), _within(copy_context())


@contextmanager
def _within(context: Context) -> Iterator[None]:
    tokens = [(variable, variable.set(value)) for variable, value in context.items()]
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def answer_ends(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens that end an answer: many a chat model ends its turns with one that its tokenizer does not call the end."""
    configured = getattr(backbone.generation_config, "eos_token_id", None)
    more = configured if isinstance(configured, list) else [] if configured is None else [configured]
    return frozenset([*stop_ids(tokenizer), *more])


# Identity


@dataclass(frozen=True)
class Checkpoint:
    """Where a backbone came from."""

    folder: Path
    tied: tuple[tuple[str, ...], ...]  # names of one tensor each, of which the files hold one

    @cached_property
    def fingerprint(self) -> str:
        """Over the files' tensors, one in memory at a time; those that are tied count under all their names."""
        return fingerprint(_Tensors(self))


@dataclass(frozen=True)
class _Read:
    """In place of a checkpoint whose tensors were all read when it was loaded."""

    fingerprint: str


class _Tensors(Mapping[str, Tensor]):
    """A checkpoint's tensors by name, read when they are asked for."""

    def __init__(self, checkpoint: Checkpoint):
        folder = checkpoint.folder
        shards = {_SINGLE}
        if not (folder / _SINGLE).is_file():
            shards = set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        self._files = [safe_open(folder / shard, framework="pt") for shard in sorted(shards)]
        self._places = {name: (file, name) for file in self._files for name in file.keys()}  # noqa: SIM118
        for names in checkpoint.tied:
            stored = [self._places[name] for name in names if name in self._places]
            self._places |= {name: stored[0] for name in names if stored and name not in self._places}

    def __getitem__(self, name: str) -> Tensor:
        file, stored = self._places[name]
        tensor: Tensor = file.get_tensor(stored)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _tied(model: PreTrainedModel) -> tuple[tuple[str, ...], ...]:
    names: dict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    return tuple(tuple(group) for group in names.values() if len(group) > 1)


def backbone_tensors(backbone: PreTrainedModel) -> Mapping[str, Tensor]:
    """A backbone's own weights by name, whether or not experts sit on it; of one from a folder, those of its files."""
    checkpoint: Any = getattr(backbone, "checkpoint", None)
    if isinstance(checkpoint, Checkpoint):
        return _Tensors(checkpoint)
    state = backbone.state_dict().items()
    return {n.replace(".base_layer.", "."): p for n, p in state if ".lora_" not in n and ".mole." not in n}


def backbone_fingerprint(backbone: PreTrainedModel) -> str:
    """16 hex digits over the backbone's own weights, whether or not experts sit on it.

    Of a loaded backbone: over its files, so that it does not matter in which type, or in how many bits, it is held.
    """
    checkpoint: Any = getattr(backbone, "checkpoint", None)
    if checkpoint is not None:
        return str(checkpoint.fingerprint)
    return fingerprint(backbone_tensors(backbone))


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """16 hex digits over the pieces that a tokenizer knows and their ids."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(vocabulary.encode()).hexdigest()[:16]
