"""The pocket pack says what it said at commit d23cbd3, where nothing is drawn at random: same tokens, times and samples.

The third text was recorded anew when heteronyms were told apart: "who lives" had been the noun, "will read" the past.

Recorded with greedy semantic tokens, median lengths and a guard that only watches (a retry would draw). Of the samples every
eighth was kept.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from voicegraft.inference import speaker
from voicegraft.inference.engine import SentenceTokens, sentence_tokens
from voicegraft.inference.sentence import SpeakOptions
from voicegraft.inference.speaker import Speaker

FOLDER = Path(__file__).parent / "recorded"
RECORDED: dict[str, Any] = json.loads((FOLDER / "pocket-d23cbd3.json").read_text(encoding="utf-8"))
ARRAYS = load_file(FOLDER / "pocket-d23cbd3.safetensors")


@pytest.fixture(scope="module")
def pocket() -> Speaker:
    return Speaker.load()


@pytest.fixture(scope="module")
def greedy(pocket: Speaker) -> SpeakOptions:
    options = pocket.pack.header.options
    semantic, guard = replace(options.semantic, temperature=0.0), replace(options.guard, mode="watch")
    return replace(options, semantic=semantic, length_spread=0.0, guard=guard)


@pytest.mark.parametrize("number", range(len(RECORDED["speech"])))
def test_speech_is_what_it_was(
    pocket: Speaker, greedy: SpeakOptions, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = RECORDED["speech"][number]
    said: list[SentenceTokens] = []

    def kept(*arguments: Any, **named: Any) -> SentenceTokens:
        said.append(sentence_tokens(*arguments, **named))
        return said[-1]

    monkeypatch.setattr(speaker, "sentence_tokens", kept)
    speech = pocket.say(before["text"], voice=before["voice"], options=greedy)
    assert " ".join(unit for sentence in said for unit in sentence.units) == before["units"]
    assert [code for sentence in said for code in sentence.machine.codes] == ARRAYS[f"{number}.tokens"].tolist()
    assert speech.spoken_text == before["spoken"]
    words = [[w.word, round(w.start_sec, 6), round(w.end_sec, 6)] for s in speech.sentences for w in s.words]
    assert words == before["words"]
    assert len(speech.samples) == before["num_samples"]
    assert np.abs(speech.samples[::8] - ARRAYS[f"{number}.samples"]).max() < 1e-5


@pytest.mark.parametrize("number", range(len(RECORDED["answers"])))
def test_answers_are_what_they_were(pocket: Speaker, number: int) -> None:
    before = RECORDED["answers"][number]
    assert "".join(pocket.write(before["question"])) == before["answer"]


def test_text_logits_are_what_they_were(pocket: Speaker) -> None:
    lm = pocket.pack.lm
    ids = torch.tensor([lm.text_ids("The quick brown fox jumps over the lazy dog, and nobody minds.")])
    logits = lm.text_logits(ids)[0, -4:].float().numpy()
    assert np.abs(logits - ARRAYS["text_logits"]).max() < 1e-4
