"""Opens whatever speech tokenizer lies in a folder, by what its ``config.json`` says it is."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from voicegraft.core.artifacts import artifact_kind
from voicegraft.core.errors import VoicegraftError
from voicegraft.tokenizers.base import AcousticCodec, FrameDecoder, SemanticEncoder

# Kind -> class; imported when it is needed, as transformers' audio models take a second.
_SEMANTIC = {"semantic-tokenizer": "semantic:SemanticTokenizer", "encoder-units": "encoder_units:EncoderUnits"}
_CODECS = {"codec": "codec:Codec", "hf-codec": "hf_codec:HfCodec"}


def open_semantic(folder: Path) -> SemanticEncoder:
    """The semantic tokenizer in a folder, its weights frozen.

    Raises:
        VoicegraftError: there is none, it is damaged, or of a kind that this version does not know.
    """
    found: SemanticEncoder = _open(folder, "semantic tokenizer", _SEMANTIC)
    return found


def open_codec(folder: Path) -> AcousticCodec:
    """The acoustic tokenizer in a folder, its weights frozen; raises as ``open_semantic`` does."""
    found: AcousticCodec = _open(folder, "codec", _CODECS)
    return found


def _open(folder: Path, wanted: str, classes: Mapping[str, str]) -> Any:
    kind = artifact_kind(folder, wanted)
    if kind not in classes:
        raise VoicegraftError(f"expected a {wanted} in {folder}, found a {kind}; check the path")
    module, name = classes[kind].split(":")
    return getattr(import_module(f"voicegraft.tokenizers.{module}"), name).load(folder)


def open_decoder(pack: Path) -> FrameDecoder:
    """What makes sound of a pack's frames where it has no ``vocoder``: its codec.

    Raises:
        VoicegraftError: as ``open_codec``, or the codec codes no phase and needs a vocoder.
    """
    if artifact_kind(pack / "codec", "codec") == "codec":
        raise VoicegraftError(f"{pack / 'vocoder'} is missing, and the pack's codec makes no sound alone; get it anew")
    return cast(FrameDecoder, open_codec(pack / "codec"))
