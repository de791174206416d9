"""Speech models of the Hugging Face hub, as they come: safetensors only, no code of others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import resolve
from voicegraft.core.library_logging import quietly
from voicegraft.encoders.ctranslate2 import (
    is_ctranslate2,
    read_whisper,
    whisper_config,
    whisper_extractor,
    whisper_weights,
)


def load_pretrained(
    name: str | Path,
    wanted: str,
    kinds: Collection[str],
    class_of: Callable[[Any], Any] = lambda config: AutoModel,
) -> Any:
    """The model in a folder or of that name on the hub, frozen, in float32.

    Args:
        name: a folder, of transformers' form or a Whisper for CTranslate2, or a name on the hub such as ``kyutai/mimi``.
        wanted: what is expected, for the errors, e.g. "codec".
        kinds: the ``model_type`` that may come.
        class_of: what to load by the model's config, which it may alter first, say to leave layers out.

    Raises:
        VoicegraftError: it is not there, of another type, has no safetensors, or lacks weights.
    """
    folder, config = resolve(name), config_of(name, wanted, kinds)
    if is_ctranslate2(folder):
        with _refusals(name, wanted, kinds):
            model = class_of(config).from_config(config)
            kept = model.state_dict().keys()
            model.load_state_dict({k: v for k, v in whisper_weights(read_whisper(folder)) if k in kept})
        return model.eval().requires_grad_(False)
    with _refusals(name, wanted, kinds):
        model, report = class_of(config).from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    if missing := sorted(report["missing_keys"]):
        raise VoicegraftError(f"the weights of {name} are incomplete: {missing[0]} is missing; get them anew")
    return model.eval().requires_grad_(False)


def config_of(name: str | Path, wanted: str, kinds: Collection[str]) -> Any:
    """The model's config; arguments and errors as of ``load_pretrained``, whose weights are not read."""
    folder = resolve(name)
    with _refusals(name, wanted, kinds):
        if is_ctranslate2(folder):
            config: Any = whisper_config(read_whisper(folder))
        else:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if config.model_type not in kinds:
        known = ", ".join(sorted(kinds))
        raise VoicegraftError(
            f"expected a {wanted} of type {known} in {name}, found {config.model_type}; take one of these"
        )
    return config


def load_extractor(name: str | Path, wanted: str, kinds: Collection[str]) -> Any:
    """The feature extractor beside a model: how it reads sound. Arguments and errors as of ``load_pretrained``."""
    folder = resolve(name)
    with _refusals(name, wanted, kinds):
        if is_ctranslate2(folder):
            return whisper_extractor(whisper_config(read_whisper(folder)))
        return AutoFeatureExtractor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


@contextmanager
def _refusals(name: str | Path, wanted: str, kinds: Collection[str]) -> Iterator[None]:
    try:
        with quietly():
            yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise VoicegraftError(
            f"cannot load a {wanted} from {name} ({' '.join(str(error).split())}); expected a folder with config.json and "
            f"model.safetensors, or the name of a model on the Hugging Face hub, of type {', '.join(sorted(kinds))}"
        ) from error
