"""The assistant pack: what it holds, what it borrows, and which backbone it takes. SmolLM2 itself is not in the tests."""

import json
from pathlib import Path

import pytest

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.parts import known_parts
from voicegraft.data.lexicon import Lexicon
from voicegraft.fusion.sketch import Sketch
from voicegraft.fusion.speech_lm import LEXICON
from voicegraft.inference.pack import ASSISTANT, DEFAULT_PACK, PACKS, SHARED, open_pack, part_of, read_header
from voicegraft.inference.speaker import Speaker

FOLDER = PACKS / ASSISTANT


def test_it_borrows_its_sound_and_names_its_backbone() -> None:
    header = read_header(FOLDER)
    assert header.shares == "pocket" and header.backbone.removeprefix("part:") in known_parts()
    for name in SHARED:
        assert not (FOLDER / name).exists() and part_of(FOLDER, header, name) == DEFAULT_PACK / name
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 20_000_000
    rows, pocket = (
        json.loads((folder / "expert" / "rows" / "config.json").read_text())["config"]
        for folder in (FOLDER, DEFAULT_PACK)
    )
    assert rows["vocabulary"] == pocket["vocabulary"] and rows["semantic"] == pocket["semantic"]
    assert (rows["spells"], rows["num_layers"]) == ("unknown", 6)


def test_its_lexicon_knows_what_people_say() -> None:
    lexicon = Lexicon.load(FOLDER / "expert" / LEXICON)
    assert len(lexicon.entries) > 100_000
    found = lexicon.pronunciations("The FBI read that Paris is the capital of France, said Zorblatt.")
    assert set(range(11)) - set(found) == set() and 11 not in found
    assert found[1] == ("eh", "f", "b", "iy", "ay") and found[2] == ("r", "eh", "d")


def test_another_backbone_is_refused_in_one_line(tmp_path: Path) -> None:
    tiny.write_backbone(tmp_path / "llm")
    with pytest.raises(
        VoicegraftError, match="its layers have other names or shapes; use the backbone it was trained on"
    ):
        open_pack(FOLDER, tmp_path / "llm")
    assert Sketch.load(FOLDER / "expert") is not None


def test_without_its_backbone_it_says_how_to_get_it() -> None:
    with pytest.raises(VoicegraftError, match="run: voicegraft parts get smollm2"):
        Speaker.load("assistant")
