"""Tiny random codecs of every kind on disk, opened as users open them, beside what they are held against."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize
from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel, PreTrainedModel

from tests import tiny
from voicegraft.acoustic.vocoder import Vocoder
from voicegraft.tokenizers.base import AcousticCodec, FrameDecoder
from voicegraft.tokenizers.codec import Codec
from voicegraft.tokenizers.codec_families import FAMILIES
from voicegraft.tokenizers.hf_codec import HfCodec
from voicegraft.tokenizers.loading import open_codec

NUM_CODEBOOKS = 3  # that are used, of four
SIZE = 16  # entries of a codebook


@dataclass(frozen=True)
class Case:
    codec: AcousticCodec
    decoder: FrameDecoder
    encode: Callable[[Tensor], Tensor]  # [B, T] -> [B, K, about T / hop], by the original
    decode: Callable[[Tensor], Tensor]  # [B, K, T] -> [B, about T * hop], by the original, in one go


MIMI = MimiConfig(
    sampling_rate=800,
    hidden_size=16,
    num_filters=4,
    upsampling_ratios=[4, 2],
    codebook_size=SIZE,
    codebook_dim=8,
    vector_quantization_hidden_dimension=8,
    num_quantizers=4,
    upsample_groups=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=24,
    sliding_window=6,
    layer_scale_initial_scale=0.5,
)
ENCODEC = EncodecConfig(
    sampling_rate=800,
    hidden_size=12,
    num_filters=4,
    num_residual_layers=2,
    upsampling_ratios=[4, 2],
    codebook_size=SIZE,
    target_bandwidths=[0.8, 1.6],  # thousand bits per second: 2 and 4 codebooks at 100 frames per second
)


def _dac_config(rate: int, strides: list[int]) -> DacConfig:
    return DacConfig(
        sampling_rate=rate,
        encoder_hidden_size=4,
        downsampling_ratios=strides,
        decoder_hidden_size=16,
        n_codebooks=4,
        codebook_size=SIZE,
        codebook_dim=4,
    )


def _mimi(model: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    return (
        lambda samples: model.encode(samples[:, None], num_quantizers=NUM_CODEBOOKS).audio_codes,
        lambda codes: model.decode(codes).audio_values[:, 0],
    )


def _encodec(model: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    return (
        lambda samples: model.encode(samples[:, None], bandwidth=1.6).audio_codes[0, :, :NUM_CODEBOOKS],
        lambda codes: model.decode(codes[None], [None]).audio_values[:, 0],
    )


def _dac(model: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    return (
        lambda samples: model.encode(samples[:, None], n_quantizers=NUM_CODEBOOKS).audio_codes,
        lambda codes: model.decode(audio_codes=codes).audio_values,
    )


HF_CODECS: dict[str, tuple[Any, type[PreTrainedModel], Callable[[Any], Any]]] = {
    "mimi": (MIMI, MimiModel, _mimi),
    "encodec": (ENCODEC, EncodecModel, _encodec),
    "dac": (_dac_config(1_600, [2, 4]), DacModel, _dac),
    "dac of an odd stride": (_dac_config(2_000, [2, 5]), DacModel, _dac),
}
CODECS = (*HF_CODECS, "own")


def noise(num_samples: int, batch: int = 1, seed: int = 0) -> Tensor:
    return 0.3 * torch.randn(batch, num_samples, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def hf_model(kind: str) -> PreTrainedModel:
    """With weights such that the sound is loud and every code is used, as after training."""
    config, cls, _ = HF_CODECS[kind]
    torch.manual_seed(7)
    model: Any = cls(config).eval()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
            gain = 0.8 if name.startswith("decoder") else 1.5
            transposed = isinstance(module, torch.nn.ConvTranspose1d)
            num_terms = 2 * module.in_channels if transposed else module.weight[0].numel()
            weight = torch.randn_like(module.weight) * gain * num_terms**-0.5
            if parametrize.is_parametrized(module):
                module.weight = weight
            else:
                module.weight.copy_(weight)
            if module.bias is not None:
                module.bias.normal_(std=0.02)
    for quantizer in FAMILIES[config.model_type].quantizers(model):
        for entries in (t for t in (*quantizer.parameters(), *quantizer.buffers()) if t.ndim == 2):
            entries.normal_(std=0.4)
    return model


def write_hf_model(name: str, folder: Path) -> Path:
    hf_model(name).save_pretrained(folder)
    return folder


def _own(folder: Path) -> Case:
    codec = tiny.codec().train()
    codec.rvq.started.fill_(False)
    with torch.no_grad():
        codec(noise(480 * 60, seed=9))
    codec.half().float().eval().save(folder / "codec", {})
    opened = open_codec(folder / "codec")
    vocoder = tiny.vocoder(opened.spec.fingerprint)
    vocoder.codebooks.copy_(opened.codebooks)
    vocoder.save(folder / "vocoder", {})
    decoder, original = Vocoder.load(folder / "vocoder"), Vocoder.load(folder / "vocoder")
    decoder.codebooks.copy_(opened.codebooks)  # on disk the vocoder's own copy is rounded
    original.codebooks.copy_(opened.codebooks)
    return Case(opened, decoder, Codec.load(folder / "codec").encode, lambda codes: original(codes)[0])


def write_case(name: str, folder: Path) -> Case:
    """Writes a codec and opens it; the original is loaded by its own class from its own folder."""
    if name not in HF_CODECS:
        return _own(folder)
    _, cls, originals = HF_CODECS[name]
    write_hf_model(name, folder / "original")
    HfCodec.from_model(folder / "original", NUM_CODEBOOKS).save(folder / "codec", {})
    codec: Any = open_codec(folder / "codec")
    return Case(codec, codec, *originals(cls.from_pretrained(folder / "original").eval()))
