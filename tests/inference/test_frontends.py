"""A pack reads text by its own front end, and what it cannot read it says."""

import json
import shutil
from pathlib import Path

import pytest

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.fusion.backbone import load_backbone
from voicegraft.inference.pack import PackHeader, open_pack, write_pack
from voicegraft.inference.speaker import Speaker
from voicegraft.tokenizers.semantic import SemanticTokenizer


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of the plain layout that takes text as it stands."""
    folder = tmp_path_factory.mktemp("plain")
    tiny.write_parts(folder / "work")
    backbone, _ = load_backbone(folder / "work" / "backbone")
    semantic = SemanticTokenizer.load(folder / "work" / "semantic").spec.fingerprint
    tiny.trained_expert(backbone, semantic, layout="plain").save(folder / "work" / "expert", {})
    header = PackHeader("plain", options=tiny.OPTIONS, frontend="verbatim")
    write_pack(folder / "pack", folder / "work", header, "card")
    return folder / "pack"


@pytest.mark.parametrize("text", ["Привет, мир.", "你好", "schön … 5 Äpfel"])
def test_other_languages_are_spoken_as_they_stand(text: str, plain: Path) -> None:
    speech = Speaker.load(plain).say(text)
    assert speech.spoken_text == text and not speech.report.skipped
    assert len(speech.samples) and speech.report.status != "empty" and not speech.sentences[0].words


def test_what_is_left_out_is_told(plain: Path) -> None:
    speech = Speaker.load(plain).say("Да\x07 нет. 😀 🙂")
    assert speech.spoken_text == "Да нет." and speech.report.skipped == ["U+0007", "😀", "🙂"]


def test_a_pack_that_names_no_front_end_reads_english(pack_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pack_folder, tmp_path / "pack"))
    header = json.loads((folder / "pack.json").read_text())
    assert header.pop("frontend") == "english"
    (folder / "pack.json").write_text(json.dumps(header))
    assert Speaker.load(folder).say("Go 2 home.").spoken_text == "Go two home."


@pytest.mark.parametrize(
    ("name", "message"),
    [("klingon", r"one of english, verbatim, got 'klingon'; upgrade"), ("verbatim", r"needs frontend: english")],
)
def test_front_ends_that_are_unknown_or_cannot_spell_are_refused(
    name: str, message: str, pack_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(pack_folder, tmp_path / "pack"))
    tiny.edit_json(folder / "pack.json", frontend=name)
    with pytest.raises(VoicegraftError, match=message):
        open_pack(folder)
