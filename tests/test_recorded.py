"""The pack that ships says what it said when it came, where nothing is drawn at random: same tokens, times and samples.

``python -m tools.record_pocket`` records a new pack.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tools.record_pocket import last_logits, said
from voicegraft.inference.speaker import Speaker

FOLDER = Path(__file__).parent / "recorded"
RECORDED: dict[str, Any] = json.loads((FOLDER / "pocket.json").read_text(encoding="utf-8"))
ARRAYS = load_file(FOLDER / "pocket.safetensors")


@pytest.fixture(scope="module")
def pocket() -> Speaker:
    return Speaker.load()


@pytest.mark.parametrize("number", range(len(RECORDED["speech"])))
def test_speech_is_what_it_was(pocket: Speaker, number: int) -> None:
    before = RECORDED["speech"][number]
    about, made = said(pocket, before["voice"], before["text"])
    assert about["units"] == before["units"]
    assert made["tokens"].tolist() == ARRAYS[f"{number}.tokens"].tolist()
    assert about == before
    assert np.abs(made["samples"] - ARRAYS[f"{number}.samples"]).max() < 1e-5


@pytest.mark.parametrize("number", range(len(RECORDED["answers"])))
def test_answers_are_what_they_were(pocket: Speaker, number: int) -> None:
    before = RECORDED["answers"][number]
    assert "".join(pocket.write(before["question"])) == before["answer"]


def test_text_logits_are_what_they_were(pocket: Speaker) -> None:
    assert np.abs(last_logits(pocket) - ARRAYS["text_logits"]).max() < 1e-4
