import json
from dataclasses import replace
from pathlib import Path

import pytest

from pocket.flite import SyntheticConfig
from pocket.prepare import PreparePocketConfig, choose_sentences, dictionary_words
from voicegraft.data.corpora import words_key

CONFIG = PreparePocketConfig(dictionary="", dialogue_share=0.5, synthetic=SyntheticConfig(num_utterances=6))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Raw corpora, unpacked."""
    corpora, data = tmp_path / "work" / "corpora", tmp_path / "data"
    (data / "prompts").mkdir(parents=True)
    (data / "prompts" / "harvard_001-360.txt").write_text("Paint the sockets in the wall.\n")
    (corpora / "books-pd").mkdir(parents=True)
    book = " ".join(f"The {word} ran down to the river." for word in ("dog", "cat", "man", "cow", "boy", "girl", "dog"))
    (corpora / "books-pd" / "b.txt").write_text(f"{book}\n\nPaint the sockets in the wall.\n")
    (corpora / "sgd-dialogues").mkdir()
    turns = [{"speaker": "user", "text": f"I want to go to {place} now."} for place in ("Rome", "Bath", "York", "Hull")]
    (corpora / "sgd-dialogues" / "train.jsonl").write_text(json.dumps({"turns": turns}) + "\n")
    return tmp_path / "work"


def test_nothing_that_an_evaluation_will_say_is_trained_on(work: Path) -> None:
    config = replace(CONFIG, data=str(work.parent / "data"), work=str(work))
    sentences = choose_sentences(config, work.parent / "data", work)
    keys = [words_key(s) for s in sentences]
    assert len(keys) == len(set(keys)) == 10  # six of the book and four of the dialogue, each once
    assert words_key("Paint the sockets in the wall") not in keys
    # The first ones, which flite reads, are mixed as configured.
    assert sum(k.startswith("i want") for k in keys[:6]) == 3
    assert choose_sentences(config, Path("gone"), work) == sentences  # kept


def test_a_dictionary_gives_its_plain_words(tmp_path: Path) -> None:
    path = tmp_path / "cmudict.dict"
    path.write_text(
        "'bout B AW1 T\na AH0\na(2) EY1\ndon't D OW1 N T\na.m. EY2 EH1 M\n\nyacht Y AA1 T # boat\nyacht(2) Y AO1 T\n"
    )
    assert dictionary_words(path) == ["don't", "yacht"]
