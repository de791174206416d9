"""Codecs of transformers: how they are found, stored and refused. What they do is in ``test_codecs.py``."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import EncodecConfig, EncodecModel, LlamaConfig

from tests.codecs import HF_CODECS, NUM_CODEBOOKS, hf_model, noise, write_hf_model
from tests.tiny import edit_json
from voicegraft.core.artifacts import artifact_folder
from voicegraft.core.errors import VoicegraftError
from voicegraft.tokenizers.hf_codec import HfCodec
from voicegraft.tokenizers.loading import open_codec
from voicegraft.tokenizers.streaming_conv import Chain

CAUSAL = {"mimi": (0, 1), "encodec": (0, 7)}  # ahead, first


@pytest.fixture(scope="module", params=HF_CODECS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_what_is_loaded_is_what_was_saved_and_needs_nothing_besides(name: str, tmp_path: Path) -> None:
    codec = HfCodec(hf_model(name), NUM_CODEBOOKS)
    codec.save(tmp_path / "codec", {"model": name})
    codec.save(tmp_path / "codec", {"model": name})  # replaces it
    (tmp_path / "codec").rename(tmp_path / "moved")
    loaded = open_codec(tmp_path / "moved")
    assert loaded.spec == codec.spec
    assert torch.equal(loaded.codebooks, codec.codebooks)
    samples = noise(codec.hop * 20)
    assert torch.equal(loaded.encode(samples), codec.encode(samples))
    assert isinstance(loaded, HfCodec) and not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "moved").rglob("*.json"))
    # A process killed between the two renames of a replacement leaves the old folder aside.
    (tmp_path / "moved").rename(tmp_path / ".moved.old")
    assert artifact_folder(tmp_path / "moved") == tmp_path / ".moved.old"
    assert HfCodec.load(tmp_path / "moved").spec == codec.spec


def test_the_fingerprint_covers_what_is_used_and_nothing_else(name: str) -> None:
    seen = {HfCodec(hf_model(name), count).codec for count in (2, NUM_CODEBOOKS)}
    assert len(seen) == 2, "other codebooks are other tokens"
    model = hf_model(name)
    known = HfCodec(model, NUM_CODEBOOKS).codec
    last = _quantizers(model)[NUM_CODEBOOKS]
    with torch.no_grad():
        for tensor in (*last.parameters(), *last.buffers()):
            tensor.add_(1.0)
        assert HfCodec(model, NUM_CODEBOOKS).codec == known
        for part in (model.encoder, model.decoder, _quantizers(model)[0]):
            tensor = next(t for t in (*part.parameters(), *part.buffers()) if t.ndim > 1)
            tensor.view(-1)[0] += 1.0
            changed = HfCodec(model, NUM_CODEBOOKS).codec
            assert changed not in seen
            seen.add(changed)


def _quantizers(model: Any) -> Any:
    return HfCodec(model)._family.quantizers(model)


def test_all_codebooks_are_used_unless_fewer_are_asked_for(name: str) -> None:
    assert HfCodec(hf_model(name)).spec.num_codebooks == 4
    for wrong in (0, 5):
        with pytest.raises(VoicegraftError, match=f"to 4 codebooks of this .*, got {wrong}"):
            HfCodec(hf_model(name), wrong)


@torch.inference_mode()
def test_it_moves_to_another_type_or_device_as_a_whole(name: str) -> None:
    codec = HfCodec(hf_model(name), NUM_CODEBOOKS)
    samples = noise(codec.hop * 20)
    codec.encode(samples)
    latents = codec.codebooks[0][torch.arange(16)].T[None]

    def sound() -> torch.Tensor:
        out, state = codec.step(latents.to(codec.codebooks), codec.start())
        return torch.cat([out, codec.finish(state)], -1)

    single = sound()
    codec.double()
    assert codec.encode(samples.double()).shape == (1, NUM_CODEBOOKS, 20)
    assert sound().dtype == torch.float64
    torch.testing.assert_close(sound().float(), single, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "wanted"), CAUSAL.items())
def test_causal_codecs_do_not_look_ahead(kind: str, wanted: tuple[int, int]) -> None:
    """EnCodec mirrors its first frames, and so must have them; after that it waits for nothing."""
    codec = HfCodec(hf_model(kind))
    assert (codec.ahead, codec.first) == wanted


@torch.inference_mode()
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_encodec_may_trim_on_both_sides(ratio: float) -> None:
    torch.manual_seed(0)
    config = EncodecConfig(**{**HF_CODECS["encodec"][0].to_dict(), "trim_right_ratio": ratio})
    model = EncodecModel(config).eval()
    codec = HfCodec(model)
    latents = torch.randn(1, 12, 20)
    state, out = codec.start(), []
    for frame in latents.split(1, -1):
        samples, state = codec.step(frame, state)
        out.append(samples)
    whole = model.decoder(latents)[:, 0]
    torch.testing.assert_close(torch.cat([*out, codec.finish(state)], -1), whole, atol=1e-6, rtol=1e-4)


def test_a_type_that_is_not_a_known_codec_is_named(tmp_path: Path) -> None:
    LlamaConfig().save_pretrained(tmp_path / "llama")
    with pytest.raises(VoicegraftError, match=r"expected a codec of type dac, encodec, mimi in .*llama, found llama"):
        HfCodec.from_model(tmp_path / "llama")


def test_a_path_that_leads_nowhere(tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match=r"nothing: there is no such folder; check the path"):
        HfCodec.from_model(tmp_path / "nothing")


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    folder = write_hf_model("dac", tmp_path / "dac")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(VoicegraftError, match="cannot load a codec"):
        HfCodec.from_model(folder)


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    folder = write_hf_model("dac", tmp_path / "dac")
    tensors = load_file(folder / "model.safetensors")
    del tensors["decoder.conv1.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(VoicegraftError, match=r"incomplete: decoder\.conv1\.weight is missing"):
        HfCodec.from_model(folder)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"audio_channels": 2}, "audio_channels=2"),
        ({"normalize": True}, "normalize=True"),
        ({"chunk_length_s": 1.0, "overlap": 0.01}, r"chunk_length_s=1\.0"),
        (
            {"norm_type": "time_group_norm", "use_causal_conv": False},
            "use_causal_conv=False, norm_type=time_group_norm",
        ),
        ({"pad_mode": "replicate"}, "pad_mode=replicate"),
    ],
)
def test_what_cannot_be_decoded_in_pieces_is_refused(changed: dict[str, Any], named: str) -> None:
    """EnCodec at 48 kHz is all of it: stereo, normalised, in chunks."""
    config = EncodecConfig(**{**HF_CODECS["encodec"][0].to_dict(), **changed})
    with pytest.raises(VoicegraftError, match=f"cannot be decoded piece by piece .*{named}"):
        HfCodec(EncodecModel(config))


def test_half_a_codec_is_refused() -> None:
    model: Any = hf_model("mimi")
    model.encoder = None
    with pytest.raises(VoicegraftError, match="expected a whole mimi"):
        HfCodec(model)


def test_damage_is_told(tmp_path: Path) -> None:
    HfCodec(hf_model("dac")).save(tmp_path / "codec", {})
    weights = tmp_path / "codec" / "model" / "model.safetensors"
    tensors = load_file(weights)
    tensors["decoder.conv1.weight"][0, 0, 0] += 1.0
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(VoicegraftError, match="is damaged"):
        HfCodec.load(tmp_path / "codec")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(VoicegraftError, match="cannot load a codec"):
        HfCodec.load(tmp_path / "codec")
    edit_json(tmp_path / "codec" / "config.json", kind="vocoder")
    with pytest.raises(VoicegraftError, match=r"expected a hf-codec in .*, found a vocoder"):
        HfCodec.load(tmp_path / "codec")


def test_a_config_that_is_no_json(tmp_path: Path) -> None:
    folder = write_hf_model("dac", tmp_path / "dac")
    (folder / "config.json").write_text("{")
    with pytest.raises(VoicegraftError, match="cannot load a codec"):
        HfCodec.from_model(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "codec-of-tomorrow"}))
    with pytest.raises(VoicegraftError, match="cannot load a codec"):
        HfCodec.from_model(folder)


def test_less_than_a_frame_has_no_codes(name: str) -> None:
    codec = HfCodec(hf_model(name))
    for num_samples in (0, codec.hop - 1):
        assert codec.encode(noise(num_samples, batch=2)).shape == (2, 4, 0)


@torch.inference_mode()
def test_a_step_may_bring_nothing(name: str) -> None:
    codec = HfCodec(hf_model(name))
    latents = torch.randn(2, codec.codebooks.shape[-1], 30)
    heard = []
    for parts in (latents.split(5, -1), latents.split([0, 5, 0, 0, 25, 0], -1)):
        state, out = codec.start(2), []
        for part in parts:
            samples, state = codec.step(part, state)
            out.append(samples)
        heard.append(torch.cat([*out, codec.finish(state)], -1))
    torch.testing.assert_close(*heard, atol=1e-5, rtol=1e-4)


def test_an_empty_chain_hands_everything_on() -> None:
    chain, x = Chain([]), torch.randn(1, 2, 3)
    assert chain.stride == 1 and torch.equal(chain.step(x, chain.start(1, x), last=False)[0], x)
