"""Opens whatever speech tokenizer lies in a folder, by what its ``config.json`` says it is."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from voicegraft.core.artifacts import artifact_kind
from voicegraft.core.errors import VoicegraftError
from voicegraft.tokenizers.base import AcousticCodec, FrameDecoder, SemanticEncoder
from voicegraft.tokenizers.codec import Codec
from voicegraft.tokenizers.semantic import SemanticTokenizer


def open_semantic(folder: Path) -> SemanticEncoder:
    """The semantic tokenizer in a folder, its weights frozen.

    Raises:
        VoicegraftError: there is none, it is damaged, or of a kind that this version does not know.
    """
    kind = artifact_kind(folder, "semantic tokenizer")
    if kind == "semantic-tokenizer":
        return SemanticTokenizer.load(folder)
    if kind == "encoder-units":
        from voicegraft.tokenizers.encoder_units import EncoderUnits  # transformers' audio models take a second

        return EncoderUnits.load(folder)
    raise VoicegraftError(f"expected a semantic tokenizer in {folder}, found a {kind}; check the path")


def open_codec(folder: Path) -> AcousticCodec:
    """The acoustic tokenizer in a folder, its weights frozen; raises as ``open_semantic`` does."""
    kind = artifact_kind(folder, "codec")
    if kind == "codec":
        return Codec.load(folder)
    if kind == "hf-codec":
        from voicegraft.tokenizers.hf_codec import HfCodec

        return HfCodec.load(folder)
    raise VoicegraftError(f"expected a codec in {folder}, found a {kind}; check the path")


def open_decoder(pack: Path) -> FrameDecoder:
    """What makes sound of a pack's frames where it has no ``vocoder``: its codec.

    Raises:
        VoicegraftError: as ``open_codec``, or the codec codes no phase and needs a vocoder.
    """
    if artifact_kind(pack / "codec", "codec") == "codec":
        raise VoicegraftError(f"{pack / 'vocoder'} is missing, and the pack's codec makes no sound alone; get it anew")
    return cast(FrameDecoder, open_codec(pack / "codec"))
