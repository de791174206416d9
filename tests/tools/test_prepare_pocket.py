import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pocket.flite import SyntheticConfig
from pocket.prepare import PreparePocketConfig, choose_sentences, dictionary_words, ingest_recordings
from tests import tiny
from voicegraft.audio.io import write_audio
from voicegraft.data.corpora import words_key
from voicegraft.data.manifest import read_manifest
from voicegraft.data.shards import RaggedArray

CONFIG = PreparePocketConfig(
    recordings=("ann",), dictionary="", mel=tiny.MEL, dialogue_share=0.5, synthetic=SyntheticConfig(num_utterances=6)
)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Raw corpora, unpacked."""
    corpora, data = tmp_path / "work" / "corpora", tmp_path / "data"
    recordings = corpora / "ann"
    recordings.mkdir(parents=True)
    rows = []
    for i in range(4):
        silence = np.zeros(12_000, np.float32)
        speech = tiny.made_up_utterance(f"{i}", "ann", "train", tiny.SENTENCES[i], False, i).samples
        write_audio(recordings / f"{i}.flac", np.concatenate([silence, 0.2 * speech, silence]), 24_000)
        split = "test" if i == 3 else "train"
        text = tiny.SENTENCES[i] if i else "He met F. B. Owl of the F.B.I. today."
        rows.append({"audio": f"{i}.flac", "text": text, "speaker": "ann", "duration": 1.0, "split": split})
    (recordings / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (data / "prompts").mkdir(parents=True)
    (data / "prompts" / "harvard_001-360.txt").write_text("Paint the sockets in the wall.\n")
    (corpora / "books-pd").mkdir()
    book = " ".join(f"The {word} ran down to the river." for word in ("dog", "cat", "man", "cow", "boy", "girl", "dog"))
    (corpora / "books-pd" / "b.txt").write_text(f"{book}\n\nPaint the sockets in the wall. {tiny.SENTENCES[3]}\n")
    (corpora / "sgd-dialogues").mkdir()
    turns = [{"speaker": "user", "text": f"I want to go to {place} now."} for place in ("Rome", "Bath", "York", "Hull")]
    (corpora / "sgd-dialogues" / "train.jsonl").write_text(json.dumps({"turns": turns}) + "\n")
    return tmp_path / "work"


def test_nothing_that_an_evaluation_will_say_is_trained_on(work: Path) -> None:
    recordings = {"ann": read_manifest(work / "corpora" / "ann")}
    config = replace(CONFIG, data=str(work.parent / "data"), work=str(work))
    sentences = choose_sentences(config, work.parent / "data", work, recordings)
    keys = [words_key(s) for s in sentences]
    assert len(keys) == len(set(keys)) == 10  # six of the book and four of the dialogue, each once
    assert words_key("Paint the sockets in the wall") not in keys
    assert words_key(tiny.SENTENCES[3]) not in keys  # the test split
    # The first ones, to be synthesised, are mixed as configured.
    assert sum(k.startswith("i want") for k in keys[:6]) == 3
    assert choose_sentences(config, Path("gone"), work, recordings) == sentences  # kept


def test_a_dictionary_gives_its_plain_words(tmp_path: Path) -> None:
    path = tmp_path / "cmudict.dict"
    path.write_text(
        "'bout B AW1 T\na AH0\na(2) EY1\ndon't D OW1 N T\na.m. EY2 EH1 M\n\nyacht Y AA1 T # boat\nyacht(2) Y AO1 T\n"
    )
    assert dictionary_words(path) == ["don't", "yacht"]


def test_recordings_are_trimmed_levelled_and_their_test_split_held_back(work: Path) -> None:
    utterances = read_manifest(work / "corpora" / "ann")
    ingest_recordings(CONFIG, work, "ann", utterances)
    folder = work / "speech" / "ann"
    rows = read_manifest(folder)
    assert [u.split for u in rows] == ["train", "train", "train", "val"]
    assert rows[0].text == "He met F  B  Owl of the F B I  today."  # initialisms are letters, not sentences
    audio, mel = RaggedArray(folder / "audio"), RaggedArray(folder / "mel", key=tiny.MEL.key)
    for samples, frames in zip(audio, mel, strict=True):
        assert len(samples) % tiny.FRAME == 0 and len(frames) == len(samples) // tiny.MEL.hop
        assert np.abs(samples[:1200]).max() < 400  # a tenth of a second of silence is left
        voiced = np.abs(samples.astype(np.float32) / 32768)
        assert 0.1 < voiced.max() <= 0.96
    raw = tiny.made_up_utterance("1", "ann", "train", tiny.SENTENCES[1], False, 1).samples
    assert len(audio[1]) <= len(raw) + 2 * 2400 + 960 < len(raw) + 2 * 12_000
    stamp = (folder / "manifest.jsonl").stat().st_mtime_ns
    ingest_recordings(CONFIG, work, "ann", utterances)
    assert (folder / "manifest.jsonl").stat().st_mtime_ns == stamp
