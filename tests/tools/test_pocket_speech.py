"""The pocket's speech: what Kokoro is asked to read, who is held out, and what an evaluation compares with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocket import speech
from pocket.speech import KOKORO, SpeechConfig, prepare_speakers, write_held_back
from tests import tiny
from voicegraft.audio.io import write_audio
from voicegraft.data.manifest import read_manifest
from voicegraft.data.prepared import PreparedSpeech
from voicegraft.evaluation.speech.recordings import find_recordings
from voicegraft.evaluation.speech.reserved import TEST_VOICES


def test_each_reading_says_sentences_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(speech, "synthesize", asked.append)
    speech.make_readings(SpeechConfig(), tmp_path)
    assert [one.out.name for one in asked] == ["heart", "michael", "isabella", "voices", "mixtures"]
    assert {one.texts for one in asked} == {tmp_path / "sentences.txt"} and len({one.seed for one in asked}) == 5
    assert asked[-1].mixtures.count == 100 and not asked[-1].voices
    assert len(KOKORO) == 22 and not {*KOKORO} & {*TEST_VOICES}


def test_some_of_many_speakers_are_held_out(tmp_path: Path) -> None:
    corpus, work = tmp_path / "data" / "many", tmp_path / "work"
    corpus.mkdir(parents=True)
    rows = []
    for number, speaker in enumerate(("0001", "0002", "0002")):
        made = tiny.made_up_utterance("x", speaker, "train", tiny.SENTENCES[number], False, number)
        write_audio(corpus / f"{number}.flac", np.tile(0.3 * made.samples, 3).clip(-1, 1), tiny.RATE)
        rows.append({"audio": f"{number}.flac", "text": tiny.SENTENCES[number].upper(), "speaker": speaker})
    (corpus / "manifest.jsonl").write_text("\n".join(json.dumps({**row, "split": "train"}) for row in rows))
    config = SpeechConfig(speakers="many", held_out=("so0002",), workers=1)
    prepare_speakers(config, tmp_path / "data", work)
    found = read_manifest(work / "speech" / "speechocean762-000")
    assert [(row.speaker, row.split) for row in found] == [("so0001", "train"), ("so0002", "test"), ("so0002", "test")]
    assert (work / "speech" / "speechocean762-000" / "mel" / "index.json").is_file()
    assert "so0001" not in (corpus / "manifest.jsonl").read_text()  # the corpus itself stays as it is
    prepare_speakers(config, tmp_path / "data", work)


def test_an_evaluation_compares_with_held_back_clips_under_the_names_that_ship(tmp_path: Path) -> None:
    tiny.write_made_up_speech(tmp_path)
    write_held_back(PreparedSpeech(tmp_path, ("ann", "ben")), {"ann": "Anna"}, tmp_path / "held-back")
    human = find_recordings([tmp_path / "held-back"], ["Anna", "Ben"])
    assert list(human) == ["Anna"] and [clip.text for clip in human["Anna"].clips] == [tiny.SENTENCES[3]]
    assert len(human["Anna"].read(human["Anna"].clips[0], tiny.RATE).samples)
