"""The recogniser that reports lead with, on a tiny model of random weights for CTranslate2."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.whispers import write_ctranslate2, write_whisper
from voicegraft.core import parts
from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.judges import load, whisper
from voicegraft.evaluation.judges.base import Judges
from voicegraft.evaluation.reports.summary import write_report
from voicegraft.evaluation.speech.items import Clip, Item, judge_clip

pytest.importorskip("faster_whisper")
pytest.importorskip("whisper_normalizer")

RATE = 16_000


class Says:
    name = "a recogniser that says one thing"

    def __init__(self, words: str):
        self.words = words

    def transcribe(self, samples: np.ndarray, sample_rate: int) -> str:
        return self.words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("whisper")
    return write_ctranslate2(base / "tiny-ct2", write_whisper(base / "hf", seconds=30), "int8")


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other judges are stand-ins."""
    for other in ("PocketSphinxRecognizer", "DnsMosPredictor", "ResemblyzerJudge", "FaultJudge"):
        monkeypatch.setattr(load, other, object)


def test_it_hears_words_and_nothing_in_silence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", None)  # nothing is fetched
    recognizer = whisper.FasterWhisperRecognizer(folder)
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    heard = recognizer.transcribe(noise, RATE)
    assert heard and "<|" not in heard
    assert recognizer.transcribe(0.1 * noise, RATE) == heard  # one level for every judge
    assert recognizer.transcribe(0 * noise, RATE) == recognizer.transcribe(noise[:0], RATE) == ""
    assert recognizer.name.startswith("tiny-ct2 (") and "int8, beam 5" in recognizer.name
    assert str(folder.parent) not in recognizer.name


def test_texts_are_compared_in_whispers_form() -> None:
    normalize = whisper.english_normalizer()
    assert normalize("Mr. O'Neill's colour, um, cost twenty-five dollars!") == normalize(
        "mister o'neill's color cost $25"
    )
    assert normalize("It's easy.") == "it is easy"


@pytest.mark.parametrize("lacks", ["tokenizer.json", "config.json", "model.bin"])
def test_a_folder_that_lacks_something_is_refused_and_nothing_is_fetched(
    folder: Path, tmp_path: Path, lacks: str
) -> None:
    for file in folder.iterdir():
        if file.name != lacks:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(VoicegraftError, match=f"lacks {lacks}"):
        whisper.FasterWhisperRecognizer(tmp_path)


def test_damaged_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 2000 if file.name == "model.bin" else None])
    with pytest.raises(VoicegraftError, match=r"cannot load .* as a Whisper for CTranslate2"):
        whisper.FasterWhisperRecognizer(tmp_path)


def test_it_leads_where_it_is_there_with_pocketsphinx_beside_it(
    folder: Path, light: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(load.whisper, "judge_folder", lambda: folder)
    for asked, second in (("", True), ("both", True), ("whisper", False), (f"whisper:{folder}", False)):
        judges = load.load_judges(asked)
        assert judges.names["recognizer"].startswith("tiny-ct2") and judges.normalize is not None
        assert (judges.pocketsphinx is not None) == second == ("second recognizer" in judges.names)
    judges = load.load_judges("pocketsphinx")
    assert judges.normalize is None and judges.names["recognizer"] == "pocketsphinx"
    assert not caplog.messages


def test_without_the_part_pocketsphinx_leads_and_what_is_missing_is_said(
    light: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VOICEGRAFT_PARTS", str(tmp_path))
    assert load.load_judges().names["recognizer"] == "pocketsphinx"
    assert f"voicegraft parts get {parts.JUDGE}" in caplog.text
    with pytest.raises(VoicegraftError, match=r"148 MB, MIT\) is missing"):
        load.load_judges("whisper")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(VoicegraftError, match=r"faster_whisper: pip install voicegraft\[whisper\]"):
        load.load_judges("both")


def test_a_part_that_is_damaged_does_not_judge(light: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOICEGRAFT_PARTS", str(tmp_path))
    (tmp_path / parts.JUDGE).mkdir()
    for name, known in parts.part_named(parts.JUDGE).files.items():
        with (tmp_path / parts.JUDGE / name).open("wb") as file:
            file.truncate(known.size if known else 0)  # the right size, and nothing in it
    with pytest.raises(VoicegraftError, match=r"damaged \(another SHA-256\); run: voicegraft parts get"):
        load.load_judges("whisper")


def test_both_columns_are_reported(judges: Judges, tmp_path: Path) -> None:
    two = Judges(
        Says("it is $20"), judges.mos, judges.speaker, None, Says("it was twenty dollars"), whisper.english_normalizer(),
        {"recognizer": "a whisper", "second recognizer": "pocketsphinx"},
    )  # fmt: skip
    clip = Clip(np.ones(RATE, np.float32), RATE, spoken_text="It is twenty dollars.")
    row = judge_clip(Item("speech", "ann", "1", "It's $20.", lambda: clip), clip, two, {})
    assert (row["word_errors"], row["num_words"]) == (0, 3)
    assert (row["pocketsphinx"]["word_errors"], row["pocketsphinx"]["num_words"]) == (1, 4)
    write_report(tmp_path, [row], {"judges": two.names})
    told = (tmp_path / "report.md").read_text()
    assert "WER, pocketsphinx [95 %]" in told and "the words that a whisper hears" in told
    alone = {**row, "pocketsphinx": None}
    write_report(tmp_path / "one", [alone], {"judges": {"recognizer": "a whisper"}})
    assert "pocketsphinx [95" not in (tmp_path / "one" / "report.md").read_text()
