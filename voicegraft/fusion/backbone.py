"""Text LLMs as they come: loaded from a folder, told apart by their weights."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from voicegraft.core.artifacts import fingerprint
from voicegraft.core.errors import VoicegraftError


def load_backbone(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Any causal LM folder in float32, from safetensors, without remote code."""
    if not (folder / "config.json").is_file():  # transformers would take the path for a name on the Hub
        raise VoicegraftError(
            f"expected the folder of a text LLM at {folder}, found no config.json there; check the path"
        )
    try:
        with quietly():
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return model.eval(), tokenizer
    except (OSError, ValueError, SafetensorError) as error:
        raise VoicegraftError(
            f"{folder} is not a causal LM that transformers can load ({one_line(error)}); expected config.json, "
            "safetensors weights and a tokenizer"
        ) from error


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps the progress bars and deprecation notices of libraries from the users of a command."""
    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def backbone_fingerprint(backbone: PreTrainedModel) -> str:
    """Over the backbone's own weights, whether or not experts sit on it."""
    state = backbone.state_dict().items()
    own = {n.replace(".base_layer.", "."): p for n, p in state if ".lora_" not in n}
    return fingerprint(own)


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """16 hex digits over the pieces that a tokenizer knows and their ids."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(vocabulary.encode()).hexdigest()[:16]
