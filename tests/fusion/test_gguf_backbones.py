"""A backbone from a GGUF file is the backbone that was written into it, tokenizer and fingerprint with it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from tests.export.test_gguf_file import TEXT, merging_tokenizer, plain_lm
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import resolve
from voicegraft.export.gguf_file import export_gguf
from voicegraft.fusion.backbone import BackboneSettings, backbone_fingerprint, check_backbone, load_backbone

gguf = pytest.importorskip("gguf")
IDS = torch.arange(2, 42)[None]


def write(family: str, file: Path, dtype: Any = "f32") -> PreTrainedModel:
    """The model of a file: the backbone, with rows for speech, and nothing merged into it."""
    lm = plain_lm(family)
    lm.mole.merged = lambda expert: lambda module: module.weight  # type: ignore[method-assign, assignment]
    export_gguf(lm, file, dtype)
    return lm.backbone


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("gguf") / "m.gguf"
    write("llama", file)
    return file


@torch.inference_mode()
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_it_computes_and_is_told_apart_as_the_model_in_the_file(family: str, tmp_path: Path) -> None:
    written = write(family, tmp_path / "m.gguf")
    loaded, tokenizer = load_backbone(str(tmp_path / "m.gguf"))
    assert torch.equal(loaded(IDS).logits, written(IDS).logits)
    assert backbone_fingerprint(loaded) == backbone_fingerprint(written)
    assert tokenizer.encode(TEXT, add_special_tokens=False) == merging_tokenizer().encode(
        TEXT, add_special_tokens=False
    )
    assert tokenizer.decode(tokenizer.encode(TEXT, add_special_tokens=False)) == TEXT


@torch.inference_mode()
def test_as_a_folder_it_is_the_same_backbone(llama: Path, tmp_path: Path) -> None:
    loaded, tokenizer = load_backbone(llama)
    loaded.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, other = load_backbone(tmp_path)
    assert backbone_fingerprint(again) == backbone_fingerprint(loaded)
    assert torch.equal(again(IDS).logits, loaded(IDS).logits)
    assert other.get_vocab() == tokenizer.get_vocab()


def test_the_only_file_of_a_folder_is_meant(llama: Path) -> None:
    assert resolve(str(llama)) == llama
    check_backbone(llama)
    check_backbone(llama.parent)
    assert backbone_fingerprint(load_backbone(llama.parent)[0]) == backbone_fingerprint(load_backbone(llama)[0])


def test_it_is_one_backbone_however_it_is_held(llama: Path) -> None:
    one, _ = load_backbone(llama)
    for settings in (BackboneSettings("bfloat16"), BackboneSettings("float32", "4bit")):
        if settings.quantization:
            pytest.importorskip("bitsandbytes")
        other, _ = load_backbone(llama, settings)
        assert backbone_fingerprint(other) == backbone_fingerprint(one)
        assert not torch.equal(other(IDS).logits.float(), one(IDS).logits)


def test_blocks_are_multiplied_out(tmp_path: Path) -> None:
    write("llama", tmp_path / "m.gguf", "q8_0")
    loaded, _ = load_backbone(tmp_path / "m.gguf")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert not hasattr(loaded.config, "quantization_config")
    loaded(IDS).logits.sum().backward()  # it can be trained through


def test_scaled_positions_that_transformers_would_lose_are_refused(tmp_path: Path) -> None:
    write("llama3", tmp_path / "m.gguf")
    with pytest.raises(VoicegraftError, match=r"scaled positions \(rope_freqs\)"):
        load_backbone(tmp_path / "m.gguf")


def test_architectures_that_transformers_cannot_read_are_named(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "rwkv7")
    writer.add_block_count(1)
    for write_part in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{write_part}_to_file")()
    writer.close()
    for load in (load_backbone, check_backbone):
        with pytest.raises(VoicegraftError, match=r"cannot read .*rwkv7.* such as llama"):
            load(tmp_path / "m.gguf")


def test_shapes_that_the_reader_takes_for_others_are_refused(tmp_path: Path) -> None:
    write("qwen3", tmp_path / "m.gguf")  # its heads are not as wide as every published model's
    with pytest.raises(VoicegraftError, match="of a shape that its reader does not know"):
        load_backbone(tmp_path / "m.gguf")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused(llama: Path, tmp_path: Path, share: float) -> None:
    whole = llama.read_bytes()
    (tmp_path / "m.gguf").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(VoicegraftError, match=r"get it\s+anew"):
        load_backbone(tmp_path / "m.gguf")


def test_what_is_no_gguf_file_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_text("hello")
    with pytest.raises(VoicegraftError, match="get it anew"):
        load_backbone(tmp_path / "m.gguf")
    with pytest.raises(VoicegraftError, match="expected a GGUF file"):
        load_backbone(str(tmp_path / "n.gguf"))
