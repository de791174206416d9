"""The card says what the files say, and of the rest that it is unknown."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from voicegraft.core.artifacts import file_digest, load_artifact
from voicegraft.export.card import pack_card
from voicegraft.fusion.speech_embedding import SpeechEmbeddingConfig
from voicegraft.inference.pack import PackHeader, read_header


def front(card: str) -> dict[str, Any]:
    _, matter, _ = card.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(matter)
    return found


def test_what_nobody_wrote_down_is_unknown(pack_folder: Path) -> None:
    card = pack_card(read_header(pack_folder), pack_folder)
    assert front(card) == {
        "pipeline_tag": "text-to-speech",
        "library_name": "voicegraft",
        "tags": ["text-to-speech", "speech", "lora", "voicegraft"],
    }
    for line in ("**Language**: unknown", "**Licence**: unknown", "| corpora | unknown |", "| commit | unknown |"):
        assert line in card
    assert "Not evaluated." in card


def test_parts_and_voices_are_the_packs(pack_folder: Path) -> None:
    card = pack_card(read_header(pack_folder), pack_folder)
    rows = load_artifact(pack_folder / "expert" / "rows", "speech-rows", SpeechEmbeddingConfig).config
    assert "**Voices**: ann, ben, flite-slt" in card and "**Default voice**: ben" in card
    assert f"27 codes of tokenizer {rows.semantic}" in card
    weights = pack_folder / "acoustic" / "weights.safetensors"
    assert f"| acoustic | acoustic-lm | {weights.stat().st_size / 1e6:.2f} | `{file_digest(weights)[:16]}` |" in card
    assert f"| backbone | llama | {(pack_folder / 'backbone/model.safetensors').stat().st_size / 1e6:.2f} " in card
    assert f"`{rows.backbone}`" in card and "LoRA of rank 4, speech embedding and head |" in card
    assert "| monitor |" not in card  # there is none
    assert "--pack DIR\n" in card and "--backbone" not in card


def test_what_the_user_and_the_header_say_is_told(pack_folder: Path) -> None:
    provenance = {
        "recipe": "graft",
        "commit": "abc",
        "corpora": ["kathleen", "mine"],
        "hours": 1.5,
        "minutes": {"a": 2},
    }
    header = replace(read_header(pack_folder), provenance={**provenance, "backbone": "Qwen/Qwen2.5-0.5B@main"})
    card = pack_card(header, pack_folder, "Apache-2.0", ["en"], datasets=["someone/recordings"])
    told = {
        "license": "apache-2.0",
        "language": ["en"],
        "base_model": "Qwen/Qwen2.5-0.5B",
        "datasets": ["someone/recordings"],
    }
    assert {key: front(card)[key] for key in told} == told
    for line in ("| corpora | kathleen, mine |", "| hours | 1.5 |", "| minutes | a 2 |", "**Licence**: Apache-2.0"):
        assert line in card
    assert front(pack_card(header, pack_folder, "my own terms"))["license"] == "other"
    assert front(pack_card(header, pack_folder, "my own terms"))["license_name"] == "my own terms"
    assert front(pack_card(PackHeader("x", backbone="hub:a/b@1"), pack_folder))["base_model"] == "a/b"


def test_a_backbone_that_lies_elsewhere_is_asked_for(pack_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(pack_folder, tmp_path / "pack", ignore=shutil.ignore_patterns("backbone"))
    card = pack_card(replace(read_header(pack_folder), backbone="my-llm"), tmp_path / "pack")
    assert "--pack DIR --backbone LLM" in card and "| backbone |" not in card


def test_scores_are_those_of_the_report(pack_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(pack_folder, tmp_path / "pack")
    (tmp_path / "pack" / "evaluation").mkdir()
    wer = {"value": 0.25, "low": 0.2, "high": 0.3}
    summary = [
        {"stage": "recordings", "voice": "ann", "estimates": {"wer": {"value": 0.1, "low": 0.1, "high": 0.1}}},
        {"stage": "speech", "voice": "ann", "estimates": {"wer": wer, "rtf": wer}},
    ]
    (tmp_path / "pack" / "evaluation" / "report.json").write_text(json.dumps({"summary": summary}))
    card = pack_card(read_header(pack_folder), tmp_path / "pack")
    assert front(card)["metrics"] == ["wer"]
    (result,) = front(card)["model-index"][0]["results"]
    assert (
        result["metrics"] == [{"type": "wer", "value": 0.25, "name": "words wrong"}]
        and "ann" in result["dataset"]["name"]
    )
    assert "| ann | 0.250 [0.200, 0.300] |" in card and "0.100" not in card
