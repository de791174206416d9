import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from voicegraft.acoustic.acoustic_lm import AcousticLM
from voicegraft.acoustic.vocoder import Vocoder
from voicegraft.core.errors import VoicegraftError
from voicegraft.fusion.backbone import load_backbone
from voicegraft.fusion.experts import LoraSettings
from voicegraft.fusion.lora_training import TextExpertTraining
from voicegraft.inference.engine import sentence_tokens
from voicegraft.inference.pack import PARTS, Pack, PackHeader, open_pack, read_header, weight_bytes, write_pack
from voicegraft.inference.speaker import Speaker
from voicegraft.tokenizers.codec import Codec
from voicegraft.tokenizers.semantic import SemanticTokenizer


@pytest.fixture
def spoilt(pack_folder: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(pack_folder, tmp_path / "pack"))


def refused(folder: Path, message: str) -> None:
    with pytest.raises(VoicegraftError, match=message) as caught:
        open_pack(folder)
    assert "\n" not in str(caught.value)


def test_a_pack_explains_itself(pack_folder: Path) -> None:
    assert {p.name for p in pack_folder.iterdir()} == {*PARTS, "pack.json", "CARD.md"} - {"monitor", "listening"}
    header = read_header(pack_folder)
    assert (header.name, header.default_voice, header.options) == ("tiny", "ben", tiny.OPTIONS)
    sizes = weight_bytes(pack_folder)
    assert set(sizes) == set(PARTS) and all(
        size > 1000 for part, size in sizes.items() if part not in ("monitor", "listening")
    )
    suffixes = {p.suffix for p in pack_folder.rglob("*") if p.is_file()}
    assert suffixes <= {".json", ".safetensors", ".md", ".jinja"}


@pytest.mark.parametrize("part", ["backbone", "expert", "expert/speech", "expert/rows", "acoustic", "vocoder"])
def test_a_missing_part_is_named(part: str, spoilt: Path) -> None:
    shutil.rmtree(spoilt / part)
    refused(spoilt, str(spoilt / part))


@pytest.mark.parametrize("part", ["backbone", "expert/speech", "expert/rows", "acoustic", "vocoder"])
@pytest.mark.parametrize("left", [0, 5, 1000])
def test_truncated_weights_are_named(part: str, left: int, spoilt: Path) -> None:
    (path,) = (spoilt / part).glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:left])
    refused(spoilt, part)


@pytest.mark.parametrize("part", ["backbone/config.json", "acoustic/config.json", "vocoder/config.json", "pack.json"])
def test_truncated_settings_are_named(part: str, spoilt: Path) -> None:
    (spoilt / part).write_bytes((spoilt / part).read_bytes()[:20])
    refused(spoilt, part.split("/")[0])


def test_pickled_weights_are_not_read(spoilt: Path) -> None:
    for part, name in (("expert/speech", "adapter_model"), ("acoustic", "weights"), ("vocoder", "weights")):
        weights = spoilt / part / f"{name}.safetensors"
        kept = weights.read_bytes()
        weights.unlink()
        torch.save({}, weights.with_suffix(".bin"))
        refused(spoilt, part)
        weights.write_bytes(kept)
    open_pack(spoilt)


def test_parts_of_another_semantic_tokenizer_are_refused(spoilt: Path) -> None:
    codec = Vocoder.load(spoilt / "vocoder").config.codec
    tiny.acoustic_lm("another", codec).save(spoilt / "acoustic", {})
    refused(spoilt, "semantic tokens .* the acoustic LM reads another; take both from one training run")


def test_parts_of_another_codec_are_refused(spoilt: Path) -> None:
    tiny.vocoder("another").save(spoilt / "vocoder", {})
    refused(spoilt, "the vocoder reads another; take both from one training run")


def test_an_expert_of_another_backbone_is_refused(spoilt: Path) -> None:
    other = tiny.llama()
    with torch.no_grad():
        other.base_model.norm.weight += 1.0
    other.save_pretrained(spoilt / "backbone")
    refused(spoilt, "was trained on backbone")


def test_a_part_of_the_wrong_kind_is_refused(spoilt: Path) -> None:
    shutil.rmtree(spoilt / "vocoder")
    shutil.copytree(spoilt / "acoustic", spoilt / "vocoder")
    refused(spoilt, "expected a vocoder .* found a acoustic-lm")


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp", "backbone/../../x"])
def test_a_pack_may_not_name_a_backbone_outside(name: str, spoilt: Path) -> None:
    tiny.edit_json(spoilt / "pack.json", backbone=name)
    refused(spoilt, "names a backbone outside the pack")


def test_a_newer_format_says_to_upgrade(spoilt: Path) -> None:
    tiny.edit_json(spoilt / "pack.json", format=99, what_the_future_brings=True)
    refused(spoilt, "format 99, this version reads 2; upgrade voicegraft")


def test_an_older_format_says_to_graft_anew(spoilt: Path) -> None:
    tiny.edit_json(spoilt / "pack.json", format=1)
    refused(spoilt, "format 1, this version reads 2; graft it anew")


@pytest.mark.parametrize("text", ["[]", "7", '"pack"', "{}", '{"name": 7}', '{"name": "x", "format": "one"}'])
def test_a_header_of_something_else_is_refused(text: str, spoilt: Path) -> None:
    (spoilt / "pack.json").write_text(text)
    refused(spoilt, r"pack\.json")


def test_what_is_no_pack_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        refused(folder, r"found no pack\.json; check the path")


def test_a_pack_may_live_without_its_backbone(pack_folder: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(pack_folder, work)
    (work / "pack.json").unlink()
    write_pack(tmp_path / "pack", work, PackHeader("light", backbone="not here"), "card")
    assert not (tmp_path / "pack" / "backbone").exists()
    refused(tmp_path / "pack", r"pack/not here: there is no such folder; check the path")
    assert open_pack(tmp_path / "pack", pack_folder / "backbone").header.name == "light"


def test_a_pack_is_not_written_over_other_files_nor_without_all_parts(pack_folder: Path, tmp_path: Path) -> None:
    work = Path(shutil.copytree(pack_folder, tmp_path / "work"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(VoicegraftError, match="would be lost"):
        write_pack(tmp_path / "full", work, PackHeader("x"), "card")
    shutil.rmtree(work / "codec")
    with pytest.raises(VoicegraftError, match=r"codec is missing; run the recipe that trains it"):
        write_pack(tmp_path / "pack", work, PackHeader("x"), "card")
    assert not (tmp_path / "pack").exists()


def test_a_pack_names_no_folder_of_the_machine_it_was_made_on(pack_folder: Path) -> None:
    for path in pack_folder.rglob("*.json"):
        assert str(pack_folder.parent) not in path.read_text(), path
        json.loads(path.read_text())


def test_the_packs_router_chooses_and_is_not_needed(pack_folder: Path, tmp_path: Path) -> None:
    pack = open_pack(pack_folder)
    assert pack.lm.router is not None
    for text in tiny.SENTENCES:
        state = pack.lm.start(sentence_tokens(pack.lm, text, "ann", tiny.OPTIONS).machine.prompt)
        assert state.decoding.gates == "speech"
        prompt = pack.lm.embed_text(torch.tensor([pack.lm.text_ids(text)]))
        assert pack.lm.router.segment_gates(prompt) == "text"
    shutil.copytree(pack_folder, tmp_path / "pack")
    shutil.rmtree(tmp_path / "pack" / "router")
    without = open_pack(tmp_path / "pack")
    assert without.lm.router is None and without.lm.writing() == "text"
    said = [
        list(sentence_tokens(p.lm, "We see.", "ann", tiny.OPTIONS, np.random.default_rng(0))) for p in (pack, without)
    ]
    assert said[0] == said[1] and said[0]


def test_a_text_expert_is_given_by_its_folder(pack_folder: Path, tmp_path: Path) -> None:
    backbone, tokenizer = load_backbone(pack_folder / "backbone")
    training = TextExpertTraining(backbone, tokenizer, LoraSettings(rank=3, alpha=3))
    with torch.no_grad():
        for name, parameter in training.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    training.save(tmp_path)
    bare, expert = open_pack(pack_folder), open_pack(pack_folder, text_expert=tmp_path / "text")
    ids = torch.tensor([bare.lm.text_ids("We see.")])
    with torch.inference_mode(), bare.lm.mole.gated(bare.lm.writing()), expert.lm.mole.gated(expert.lm.writing()):
        assert not torch.allclose(bare.lm.backbone(ids).logits, expert.lm.backbone(ids).logits, atol=1e-2)


# By name, and published


def test_a_pack_may_name_its_backbone_on_the_hub(
    pack_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    shutil.copytree(pack_folder, work)
    (work / "pack.json").unlink()
    write_pack(tmp_path / "pack", work, PackHeader("light", backbone="hub:somebody/model@v1"), "card")
    asked: list[str | Path] = []

    def fetch(name: str | Path, *_: object) -> Path:
        asked.append(name)
        return pack_folder / "backbone"

    monkeypatch.setattr("voicegraft.fusion.backbone.resolve", fetch)
    assert open_pack(tmp_path / "pack").header.name == "light"
    assert asked == ["hub:somebody/model@v1"]


def test_packs_and_parts_go_and_come_by_the_usual_names(pack_folder: Path, tmp_path: Path) -> None:
    Pack.from_pretrained(pack_folder).save_pretrained(tmp_path / "copy")
    files = {p.relative_to(pack_folder) for p in pack_folder.rglob("*")}
    assert {p.relative_to(tmp_path / "copy") for p in (tmp_path / "copy").rglob("*")} == files
    one, other = (Speaker.from_pretrained(folder) for folder in (str(pack_folder), str(tmp_path / "copy")))
    options = one.pack.header.options
    assert (one.say("We go.", options=options).samples == other.say("We go.", options=options).samples).all()
    for part, cls in (
        ("acoustic", AcousticLM),
        ("vocoder", Vocoder),
        ("semantic", SemanticTokenizer),
        ("codec", Codec),
    ):
        model = cls.from_pretrained(pack_folder, subfolder=part)
        model.save_pretrained(tmp_path / part, {"recipe": "a test"})
        again = cls.from_pretrained(str(tmp_path / part))
        assert again.config == model.config
    with pytest.raises(VoicegraftError, match="there is no such folder; check the path"):
        Pack.from_pretrained(tmp_path / "nothing")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("keep me")
    with pytest.raises(VoicegraftError, match="holds other files"):
        Pack.from_pretrained(pack_folder).save_pretrained(tmp_path / "full")
