"""What is done to parts that do not come as they are used: joined, cut out, converted; each step a small function."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import WhisperForConditionalGeneration

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.library_logging import quietly
from voicegraft.encoders.ctranslate2 import read_whisper, whisper_config, whisper_extractor, whisper_weights
from voicegraft.fusion.backbone import BackboneSettings, load_backbone
from voicegraft.fusion.gguf import gguf_in

_STYLE_WIDTH = 256  # of a row of Kokoro's voices


def styles(data: bytes) -> bytes:
    """Kokoro's voice, float32 rows one after the other -> the array ``[rows, 256]`` as numpy keeps it."""
    if not data or len(data) % (4 * _STYLE_WIDTH):
        raise VoicegraftError(f"expected rows of {_STYLE_WIDTH} float32 numbers, got {len(data)} bytes; get it anew")
    file = io.BytesIO()
    np.save(file, np.frombuffer(data, "<f4").reshape(-1, _STYLE_WIDTH))
    return file.getvalue()


def vocabulary(data: bytes) -> bytes:
    """The entry ``vocab`` of a JSON file: Kokoro's signs and their ids."""
    try:
        found = json.loads(data)["vocab"]
    except (ValueError, KeyError, TypeError) as error:
        raise VoicegraftError(f"expected JSON with an entry vocab ({error!r}); get it anew") from error
    return json.dumps(found, ensure_ascii=False, indent=1).encode()


FORMS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {  # name in the table -> ending of the file, what is done
    "": ("", lambda data: data),
    "styles": (".npy", styles),
    "vocabulary": (".json", vocabulary),
}


def convert(source: Path, out: Path) -> None:
    """A GGUF file, or a Whisper for CTranslate2 -> a folder of transformers.

    Raises:
        VoicegraftError: it is neither, or damaged.
    """
    (gguf_to_folder if gguf_in(source) else whisper_to_folder)(source, out)


def gguf_to_folder(source: Path, out: Path) -> None:
    """The backbone of a GGUF file and its tokenizer, in bfloat16."""
    model, tokenizer = load_backbone(source, BackboneSettings("bfloat16"))
    with quietly():
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)


def whisper_to_folder(source: Path, out: Path) -> None:
    """A Whisper for CTranslate2, with its tokenizer and feature extractor, in float16."""
    variables = read_whisper(source)
    try:
        config = whisper_config(variables)
        with torch.device("meta"):
            model = WhisperForConditionalGeneration(config)
        weights = {f"model.{name}": values.half() for name, values in whisper_weights(variables)}
        missing, unknown = model.load_state_dict(weights, strict=False, assign=True)
    except (KeyError, ValueError, RuntimeError) as error:
        raise VoicegraftError(f"{source} is no whole Whisper for CTranslate2 ({error!r}); get it anew") from error
    if {*missing} - {"proj_out.weight"} or unknown:
        raise VoicegraftError(f"{source} lacks {sorted(missing)[0] if missing else 'nothing'}; get it anew")
    model.tie_weights()
    with quietly():
        model.save_pretrained(out)
        whisper_extractor(config).save_pretrained(out)
    shutil.copy(source / "tokenizer.json", out)
