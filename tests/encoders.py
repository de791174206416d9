"""Tiny random speech encoders of transformers' own classes, written as a user would have them, and units of every kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    HubertConfig,
    HubertModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from tests import tiny
from tools.tokenizer_study.cepstra_units import KMeansConfig, KMeansTokenizer
from voicegraft.core.artifacts import artifact_kind
from voicegraft.tokenizers.base import SemanticEncoder
from voicegraft.tokenizers.centroids import fit_centroids
from voicegraft.tokenizers.encoder_units import EncoderUnits
from voicegraft.tokenizers.loading import open_semantic
from voicegraft.tokenizers.semantic import SemanticTokenizer

NUM_LAYERS = 3
LAYER = 2  # of the units
VOCAB = 24
_SHAPE = {"hidden_size": 16, "num_hidden_layers": NUM_LAYERS, "num_attention_heads": 2, "intermediate_size": 24}
_CONVOLUTIONS = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}


def _hubert() -> tuple[Any, Any]:
    """As the large one: norms before the blocks, loudness normalised."""
    config = HubertConfig(**_SHAPE, **_CONVOLUTIONS, do_stable_layer_norm=True, feat_extract_norm="layer")
    return HubertModel(config), Wav2Vec2FeatureExtractor(do_normalize=True)


def _wavlm() -> tuple[Any, Any]:
    """As the base one: norms behind the blocks."""
    config = WavLMConfig(**_SHAPE, **_CONVOLUTIONS, num_buckets=16, max_bucket_distance=32)
    return WavLMModel(config), Wav2Vec2FeatureExtractor(do_normalize=False)


def _w2v_bert() -> tuple[Any, Any]:
    config = Wav2Vec2BertConfig(**_SHAPE, feature_projection_input_dim=40, conv_depthwise_kernel_size=3)
    return Wav2Vec2BertModel(config), SeamlessM4TFeatureExtractor(feature_size=20, num_mel_bins=20)


def _whisper() -> tuple[Any, Any]:
    """It hears one second at a time."""
    config = WhisperConfig(
        vocab_size=32, num_mel_bins=20, d_model=16, encoder_layers=NUM_LAYERS, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24,
        max_source_positions=50, max_target_positions=8, pad_token_id=0, eos_token_id=0, bos_token_id=0,
        decoder_start_token_id=0,
    )  # fmt: skip
    return WhisperModel(config), WhisperFeatureExtractor(feature_size=20, chunk_length=1)


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "hubert": _hubert,
    "wavlm": _wavlm,
    "wav2vec2-bert": _w2v_bert,
    "whisper": _whisper,
}
KINDS = (*FAMILIES, "fsq", "cepstra")  # of semantic tokenizers


def write_encoder(folder: Path, family: str, seed: int = 0) -> Path:
    """Weights spread more widely than at the start of a training, so that sounds differ in the last layer."""
    torch.manual_seed(seed)
    model, extractor = FAMILIES[family]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * parameter[0].numel() ** -0.5)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def sounds(num_samples: int, seed: int = 0, batch: int = 1) -> torch.Tensor:
    """Noise whose colour and loudness change ten times a second ``[B, T]``."""
    draw = torch.Generator().manual_seed(seed)
    num_parts = 1 + num_samples // 1600
    parts = torch.fft.rfft(torch.randn(batch, num_parts, 1600, generator=draw))
    slopes = torch.randn(batch, num_parts, 1, generator=draw)
    shaped = torch.fft.irfft(parts * (slopes * torch.linspace(-2, 2, parts.shape[-1])).exp())
    shaped *= 0.2 * torch.rand(batch, num_parts, 1, generator=draw) / shaped.std(-1, keepdim=True)
    return shaped.flatten(1)[:, :num_samples].clamp(-1, 1)


@torch.inference_mode()
def write_units(folder: Path, kind: str) -> SemanticEncoder:
    """A tokenizer of that kind, saved and opened: what its users have."""
    made: SemanticEncoder
    if kind in FAMILIES:
        units = EncoderUnits.from_encoder(write_encoder(folder.with_name(f"{folder.name}-source"), kind), LAYER, VOCAB)
        features = units.encoder(sounds(160_000))[0]
        units.standardise(features)
        units.place(fit_centroids(units.features(sounds(160_000))[0], VOCAB))
        made = units
    elif kind == "fsq":
        torch.manual_seed(0)
        semantic = SemanticTokenizer(tiny.SEMANTIC)
        for seed in range(20):  # the statistics of its bottleneck, as after training
            semantic.latents(semantic.log_mel(sounds(24_000, seed)))
        made = semantic.half().float().eval()
    else:
        kmeans = KMeansTokenizer(KMeansConfig(vocab_size=VOCAB))
        kmeans.fit(kmeans.features(kmeans.log_mel(sounds(240_000)))[0])
        made = kmeans
    made.save(folder, {"recipe": "test"})
    return open_units(folder)


def open_units(folder: Path) -> SemanticEncoder:
    """As a pack opens its tokenizer; cepstra are of the study alone, which opens them itself."""
    if artifact_kind(folder, "semantic tokenizer") == "kmeans-tokenizer":
        return KMeansTokenizer.load(folder)
    return open_semantic(folder)
