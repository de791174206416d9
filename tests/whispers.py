"""A tiny random Whisper, English only, as transformers has it and as CTranslate2's own converter writes it."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

from tests.once import copy_of

SPECIALS = [
    "<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>",
    "<|nocaptions|>", "<|notimestamps|>",
]  # fmt: skip
NUM_LAYERS = 2


def write_whisper(folder: Path, seconds: int = 1) -> Path:
    """It hears some seconds at a time, and says letters at random."""
    return copy_of(_make, folder, seconds)


def _make(folder: Path, seconds: int) -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    (folder / "vocab.json").write_text(json.dumps({letter: n for n, letter in enumerate(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIALS})
    tokenizer.add_tokens([f"<|{0.02 * n:.2f}|>" for n in range(1501)], special_tokens=False)
    tokenizer.save_pretrained(folder)
    end, start = tokenizer.convert_tokens_to_ids(SPECIALS[:2])
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=80, d_model=64, encoder_layers=NUM_LAYERS, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=96, decoder_ffn_dim=96,
        max_source_positions=50 * seconds, max_target_positions=448, pad_token_id=end, eos_token_id=end, bos_token_id=end,
        decoder_start_token_id=start,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * parameter[0].numel() ** -0.5)
        model.proj_out.weight[end:] = 0.0  # it hardly ever says anything but letters
    model.generation_config.suppress_tokens = list(range(end, len(tokenizer)))
    model.generation_config.begin_suppress_tokens = [end]
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80, chunk_length=seconds).save_pretrained(folder)


def write_ctranslate2(folder: Path, source: Path, quantization: str | None = None) -> Path:
    """The same for CTranslate2."""
    converters = pytest.importorskip("ctranslate2.converters")
    converter = converters.TransformersConverter(str(source), copy_files=["tokenizer.json"])
    converter.convert(str(folder), quantization=quantization)
    return folder
