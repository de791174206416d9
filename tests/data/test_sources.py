"""Every layout yields the same records, found out or named; what is wrong with a corpus is told in one line."""

import gzip
import json
import sys
from pathlib import Path

import pytest

from tests import layouts
from tests.layouts import RATE, SPOKEN
from voicegraft.audio.io import open_audio, read_frames, to_mono
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.sources.detect import LAYOUTS, open_source
from voicegraft.data.sources.record import Record
from voicegraft.data.splits import split_of


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def heard(record: Record) -> list[float]:
    audio = record.audio if isinstance(record.audio, Path) else record.audio()
    with open_audio(audio, record.id) as file:
        frames = read_frames(file, record.id, record.start_sec, record.duration_sec)
        return (to_mono(frames, file.samplerate, RATE).samples * 32768).tolist()


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_a_layout_is_found_out_and_yields_the_utterances(name: str, tmp_path: Path) -> None:
    layout, write = layouts.LAYOUTS[name]
    location = write(tmp_path / "corpus")
    source = open_source(str(location))
    assert source.layout == layout
    records = sorted(source.records(), key=lambda r: r.id.rpartition("/")[2])
    assert [r.id.rpartition("/")[2] for r in records] == [c.id for c in SPOKEN]
    assert [" ".join((r.text or "").lower().split()) for r in records] == [c.text.lower() for c in SPOKEN]
    if name != "ljspeech":  # which has one speaker
        assert [r.speaker for r in records] == [c.speaker for c in SPOKEN]
    for record, clip in zip(records, SPOKEN, strict=True):
        assert heard(record) == clip.samples.tolist()
    again = open_source(str(location), layout)  # named, and read a second time
    assert [r.id for r in again.records()] == [r.id for r in source.records()]


@pytest.mark.parametrize("suffix", [".mp3", ".opus", ".ogg"])
def test_compressed_files_are_found_too(suffix: str, tmp_path: Path) -> None:
    layouts.pairs(tmp_path, SPOKEN[:1], suffix)
    (record,) = open_source(str(tmp_path)).records()
    assert record.id == "11/11-1-0000"
    assert len(heard(record)) == pytest.approx(len(SPOKEN[0].samples), rel=0.1)


def test_one_folder_is_no_speaker(tmp_path: Path) -> None:
    layouts.pairs(tmp_path, SPOKEN[:3])
    assert {r.speaker for r in open_source(str(tmp_path)).records()} == {""}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-clean-100", "train"), ("dev-clean", "val"), ("validation", "val"), ("valid", "val"), ("Test", "test"),
        ("train-00000-of-00002.parquet", "train"), ("valerie", ""), ("testimony", ""), ("11", ""),
    ],
)  # fmt: skip
def test_names_of_splits(name: str, split: str) -> None:
    assert split_of(name) == split


def test_folders_and_fields_name_splits(tmp_path: Path) -> None:
    for part in ("train-clean-5", "dev-clean"):
        layouts.librispeech(tmp_path / "speech" / part)
    assert {r.split for r in open_source(str(tmp_path / "speech")).records()} == {"train", "val"}
    folder = layouts.manifest(tmp_path / "ours")
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    rows[0]["split"] = "test"
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [r.split for r in open_source(str(folder)).records()] == ["test", *[""] * 5]


def test_what_lacks_its_other_half_is_a_record_all_the_same(tmp_path: Path) -> None:
    layouts.pairs(tmp_path / "pairs", SPOKEN[:2])
    (tmp_path / "pairs" / "11" / "11-1-0000.txt").unlink()
    (tmp_path / "pairs" / "11" / "11-1-0001.wav").unlink()
    layouts.audio(tmp_path / "pairs" / "12", SPOKEN[3]).with_suffix(".txt").write_text("Here.")
    found = {r.id: r for r in open_source(str(tmp_path / "pairs")).records()}
    assert found["11/11-1-0000"].text is None
    assert not found["11/11-1-0001"].audio.is_file()
    layouts.librispeech(tmp_path / "libri")
    table = tmp_path / "libri" / "11" / "1" / "11-1.trans.txt"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[1:]) + "11-1-0009 AND MORE\n")
    found = {r.id: r for r in open_source(str(tmp_path / "libri")).records()}
    assert found["11-1-0000"].text is None and found["11-1-0009"].text == "And more"


def refused(location: Path | str, *arguments: object) -> str:
    with pytest.raises(VoicegraftError) as error:
        list(open_source(str(location), *arguments).records())  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_path_that_leaves_the_corpus_is_refused_unless_allowed(tmp_path: Path) -> None:
    """Absolute ones, as NeMo and lhotse write them, and relative ones that climb."""
    outside = tmp_path / "lists"
    outside.mkdir()
    for name, file in (("nemo", "train.json"), ("lhotse", "cuts.jsonl.gz")):
        layouts.LAYOUTS[name][1](tmp_path / name)
        (tmp_path / name / file).rename(outside / file)
        assert "outside that folder; if it may, name the folder with --audio-root" in refused(outside / file)
        assert "outside that folder" in refused(outside / file, None, outside)
        allowed = list(open_source(str(outside / file), None, tmp_path / name).records())
        assert len(allowed) == len(SPOKEN) and heard(allowed[1]) == SPOKEN[1].samples.tolist()
    for name, line in (
        ("up.jsonl", '{"audio": "../nemo/book.flac", "text": "a"}'),
        ("up.csv", "file,text\n../x.wav,a"),
    ):
        (outside / name).write_text(line)
        assert "names '../" in refused(outside / name)
    assert "expected a folder as audio root" in refused(outside, None, tmp_path / "gone")


def test_what_is_no_corpus_says_what_was_looked_for(tmp_path: Path) -> None:
    assert "found nothing; a data set of the Hugging Face Hub is hf:" in refused(tmp_path / "gone")
    (tmp_path / "film.mp4").write_bytes(b"x")
    told = refused(tmp_path)
    assert all(f"({layout})" in told for layout in LAYOUTS) and "found 1 .mp4" in told and "--layout" in told
    assert "a file of another kind" in refused(tmp_path / "film.mp4")
    assert "expected a layout of lhotse, jsonl" in refused(tmp_path, "kaldi")
    assert "expected metadata.csv or one .csv" in refused(tmp_path, "csv")
    assert "expected manifest.jsonl" in refused(tmp_path, "jsonl")
    assert ".parquet files" in refused(tmp_path, "huggingface")


@pytest.mark.parametrize(
    ("name", "text", "layout", "told"),
    [
        ("m.jsonl", "{\n", "jsonl", "m.jsonl:1: not JSON"),
        ("m.jsonl", "[1]\n", "jsonl", "expected a JSON object, got list"),
        ("m.jsonl", '{"text": "a"}\n', "jsonl", "expected the audio's file in one of audio, audio_filepath"),
        ("m.jsonl", '{"audio": "a.wav", "text": "a", "offset": 1}\n', "jsonl", "a start and a duration in seconds"),
        ("m.jsonl", '{"supervisions": 3}\n', "lhotse", "m.jsonl:1: not a cut of lhotse"),
        ("metadata.csv", "a|b\nc\n", "ljspeech", "metadata.csv:2: expected name|text"),
        ("metadata.csv", "a,b\n1,2\n", "csv", "expected a first line that names an audio column"),
        ("metadata.csv", "file,text\n,hello\n", "csv", "metadata.csv:2: expected the audio's file"),
    ],
)
def test_a_broken_line_is_named(name: str, text: str, layout: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert told in refused(tmp_path, layout)


def test_cuts_that_are_not_files_as_they_are_are_refused(tmp_path: Path) -> None:
    layouts.libriheavy(tmp_path)
    with gzip.open(tmp_path / "libriheavy_cuts_small.jsonl.gz", "rt") as file:
        cut = json.loads(file.read())
    cut["recording"]["sources"][0]["type"] = "command"
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cut))
    assert "expected a cut of one audio file as it is, got command" in refused(tmp_path / "cuts.jsonl")


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = layouts.parquet(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install voicegraft[datasets]" in refused(location)


def test_a_data_set_of_the_hub_is_loaded_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    part = layouts.dataset(tmp_path)
    asked = []

    def load(name: str, config: str | None, split: str | None) -> object:
        asked.append((name, config, split))
        if name == "no/such":
            raise FileNotFoundError("not on\nthe Hub")
        return part if split else datasets.DatasetDict({"train": part, "validation": part})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(list(open_source("hf:owner/name/clean:train.100").records())) == 6
    assert {r.split for r in open_source("hf:owner/name").records()} == {"train", "val"}
    assert asked == [("owner/name", "clean", "train.100"), ("owner/name", None, None)]
    assert open_source("hf:owner/name:train").name == "name"
    assert "cannot load hf:no/such: not on the Hub; expected hf:OWNER/NAME" in refused("hf:no/such")


def test_a_data_set_without_audio_is_refused(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_list([{"text": "a", "length": 2}]).save_to_disk(tmp_path / "d")
    assert "expected a data set with an audio column, this one has text, length" in refused(tmp_path / "d")
