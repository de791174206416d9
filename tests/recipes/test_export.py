"""`voicegraft export`: packs become files for other programs, and mistakes one line."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from gguf import GGUFReader
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.fusion.backbone import load_backbone
from voicegraft.fusion.experts import LoraSettings
from voicegraft.fusion.lora_training import TextExpertTraining
from voicegraft.inference.pack import PackHeader, write_pack
from voicegraft.inference.speaker import Speaker
from voicegraft.recipes.export import main
from voicegraft.tokenizers.semantic import SemanticTokenizer


def write_plain(folder: Path) -> None:
    work = folder / "work"
    tiny.write_parts(work)
    backbone, _ = load_backbone(work / "backbone")
    semantic = SemanticTokenizer.load(work / "semantic").spec.fingerprint
    tiny.trained_expert(backbone, semantic, layout="plain").save(work / "expert", {})
    write_pack(folder / "plain", work, PackHeader("plain", options=tiny.OPTIONS), "# A plain pack\n")
    backbone, tokenizer = load_backbone(work / "backbone")
    TextExpertTraining(backbone, tokenizer, LoraSettings(rank=2, alpha=2)).save(folder)


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a guided pack, a plain one, and a text expert."""
    folder = tmp_path_factory.mktemp("packs")
    tiny.write_tiny_pack(folder / "guided", folder / "guided-work")
    write_plain(folder)
    return folder


@torch.inference_mode()
def test_a_plain_pack_becomes_a_checkpoint(packs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    pack = ["--pack", str(packs / "plain"), "--out", str(out), "--license", "mit"]
    main(["--format", "hf", *pack, "--text-expert", str(packs / "text")])
    assert "speech tokens begin at id 258" in capsys.readouterr().out
    readme = (out / "README.md").read_text()
    assert yaml.safe_load(readme.split("---\n")[1])["license"] == "mit"
    assert "vllm serve DIR --enable-lora --max-lora-rank 8 --lora-modules speech=DIR/speech" in readme
    assert json.loads((out / "speech" / "generation_config.json").read_text())["temperature"] == 0.4  # the pack's
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(out), str(out / "speech"), "speech")
    model.load_adapter(str(out / "text"), "text")
    lm = Speaker.load(packs / "plain").pack.lm
    ids = torch.tensor([lm.text_ids("We see.")])
    model.set_adapter("speech")
    torch.testing.assert_close(
        model(input_ids=ids).logits[..., 258:],
        lm.speech_embedding.logits(lm.hidden(lm.embed_text(ids))),
        rtol=1e-4,
        atol=1e-4,
    )
    # Once more to the same place: it is an export, which may be written anew.
    main(["--format", "hf", *pack])
    assert not (out / "text").exists()


def test_a_plain_pack_becomes_a_gguf(packs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.gguf"
    main(["--format", "gguf", "--pack", str(packs / "plain"), "--out", str(out), "--dtype", "q8_0"])
    assert "m.gguf: 0." in (said := capsys.readouterr().out) and "note: the text tokenizer" in said
    assert GGUFReader(out).get_field("general.name").contents() == "plain"
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_a_guided_pack_says_that_ids_are_not_enough(packs: Path, tmp_path: Path) -> None:
    main(["--format", "hf", "--pack", str(packs / "guided"), "--out", str(tmp_path / "out")])
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "**Ids are not enough**" in readme and "vllm serve" not in readme
    assert {"units.weight", "head.bias"} <= load_file(tmp_path / "out" / "speech_inputs.safetensors").keys()


def test_the_checkpoint_keeps_the_type_of_its_backbone(packs: Path, tmp_path: Path) -> None:
    halves = tmp_path / "halves"
    tiny.llama().half().save_pretrained(halves / "backbone")
    tiny.byte_tokenizer().save_pretrained(halves / "backbone")
    backbone, _ = load_backbone(halves / "backbone")
    semantic = SemanticTokenizer.load(packs / "work" / "semantic").spec.fingerprint
    tiny.trained_expert(backbone, semantic, layout="plain").save(halves / "expert", {})
    for part in ("acoustic", "semantic", "codec", "vocoder"):
        (halves / part).symlink_to(packs / "work" / part)
    write_pack(halves / "pack", halves, PackHeader("halves"), "")
    main(["--format", "hf", "--pack", str(halves / "pack"), "--out", str(tmp_path / "out")])
    assert {t.dtype for t in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.float16}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--format hf --pack NOWHERE --out OUT", r"expected a voice pack in .*, found no pack\.json"),
        ("--format gguf --pack PACKS/guided --out OUT.gguf", r"guided layout: .* layout=plain"),
        ("--format gguf --pack PACKS/plain --out OUT", r"expected --out FILE\.gguf"),
        ("--format gguf --pack PACKS/plain --out OUT.gguf --text-expert PACKS/text", "only speaks"),
        ("--format gguf --pack PACKS/plain --out OUT/no/m.gguf", "does not exist; make it"),
        ("--format hf --pack PACKS/plain --out OUT --dtype f16", "--dtype goes with --format gguf"),
        ("--format hf --pack PACKS/plain --out PACKS/work", "holds other files and would be lost"),
    ],
)
def test_mistakes_are_one_line(packs: Path, tmp_path: Path, arguments: str, message: str) -> None:
    places = (
        arguments.replace("PACKS", str(packs))
        .replace("NOWHERE", str(tmp_path / "no"))
        .replace("OUT", str(tmp_path / "o"))
    )
    with pytest.raises(VoicegraftError, match=message) as caught:
        main(places.split())
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
