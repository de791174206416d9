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
        ("m.jsonl", '"text"\n', "jsonl", "expected a JSON object, got str"),
        ("m.jsonl", "[" * 100_000, "jsonl", "m.jsonl:1: not JSON"),
        ("m.jsonl", '{"text": "a"}\n', "jsonl", "expected the audio's file in one of audio, audio_filepath"),
        ("m.jsonl", '{"audio": "a.wav", "text": "a", "offset": 1}\n', "jsonl", "a start and a duration in seconds"),
        ("m.jsonl", '{"audio": "a.wav", "text": "a", "offset": -1, "duration": 2}', "jsonl", "seconds (got -1 and 2)"),
        (
            "m.jsonl",
            '{"audio": "a.wav", "text": "a", "offset": NaN, "duration": 2}',
            "jsonl",
            "seconds (got nan and 2)",
        ),
        ("m.jsonl", '{"audio": "a.wav", "text": ["a"]}', "jsonl", "expected a text"),
        ("m.jsonl", '{"audio": "a\\u0000.wav", "text": "a"}', "jsonl", "no name of a file"),
        ("m.jsonl", '{"supervisions": 3}\n', "lhotse", "m.jsonl:1: not a cut of lhotse"),
        ("metadata.csv", "a\n", "ljspeech", "metadata.csv:1: expected name|text"),
        ("metadata.csv", "a|b|c|d\n", "ljspeech", "most lines have 4 columns: name them in a first line"),
        ("metadata.csv", "a,b\n1,2\n", "csv", "expected a first line that names an audio column"),
        ("metadata.csv", "file,text\n,hello\n", "csv", "metadata.csv:2: expected the audio's file"),
        ("metadata.csv", "file,text\n\0,hello\n", "csv", "metadata.csv is not text in UTF-8: it is binary"),
    ],
)
def test_a_table_without_a_good_line_is_refused_by_its_first(
    name: str, text: str, layout: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    assert told in refused(tmp_path, layout)


GOOD = {
    "csv": "file,text\nc1.wav,One.",
    "ljspeech": "c1|One.\nc8|Eight.",
    "jsonl": '{"audio": "c1.wav", "text": "One."}\n{"audio": "c8.wav", "text": "Eight."}',
}


@pytest.mark.parametrize(
    ("layout", "line", "told"),
    [
        (
            "csv",
            "c2.wav,Sentence one, and more.",
            "expected 2 columns, got 3; a text that holds one stands between quotes",
        ),
        ("csv", 'c2.wav,"Sentence two', "a quote is not closed"),
        ("csv", 'c2.wav,"Two\nc3.wav,"Three."', "expected cells between ','"),
        (
            "ljspeech",
            "c2|First half | second half.",
            "expected 2 columns as in most lines, got 3: is a bar in the text?",
        ),
        ("ljspeech", "no bar at all", "expected name|text or name|text|text in words, got 'no bar at all'"),
        ("jsonl", '{"audio": "c2.wav", "text": "Tw', "not JSON"),
    ],
)
def test_a_bad_line_costs_itself_and_is_named(layout: str, line: str, told: str, tmp_path: Path) -> None:
    """One that would be read in part is put aside whole; the lines after it count."""
    path = tmp_path / ("metadata.jsonl" if layout == "jsonl" else "metadata.csv")
    last = {"csv": "c9.wav,Nine.", "ljspeech": "c9|Nine.", "jsonl": '{"audio": "c9.wav", "text": "Nine."}'}[layout]
    path.write_text("\n".join([GOOD[layout], line, last]) + "\n")
    records = list(open_source(str(tmp_path)).records())
    texts, number = [r.text for r in records if not r.fault], 3
    assert texts[0] == "One." and texts[-1] == "Nine." and set(texts) <= {"One.", "Three.", "Eight.", "Nine."}
    (bad, *_) = [r for r in records if r.fault]
    assert bad.fault.startswith(f"{path}:{number}: ") and told in bad.fault


@pytest.mark.parametrize(
    ("table", "encoding"),
    [
        ("file;text;speaker\n{c};Well, now.;ann\n;;\n;;\n", "utf-8-sig"),
        ('file,text,speaker\r\n{c},"Well, now.",ann\r\n,,\r\n', "utf-16"),
        ("FILE\tTEXT\tSPEAKER\n{c}\tWell, now.\tann\n", "utf-8"),
        ("file|text|speaker\n{c}|Well, now.|ann\n", "utf-8"),
        ("{c}|ann|Well, now.\n", "utf-8"),
        ("{c}|Well, now.|ann\n", "utf-8"),
        ('file,text,speaker\n{c},"Well,\nnow.",ann\n', "utf-8"),
    ],
)
@pytest.mark.parametrize(
    ("name", "folder", "written"),
    [("METADATA.CSV", "WAVS", "c1"), ("metadata.csv", "wavs", "wavs\\c1.wav"), ("m.csv", "Clips", "clips/c1.wav")],
)
def test_tables_as_spreadsheets_and_windows_write_them(
    table: str, encoding: str, name: str, folder: str, written: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(table.format(c=written).encode(encoding))
    path = layouts.audio(tmp_path / folder, layouts.Spoken("c1", "Well, now.", "ann"))
    (record,) = open_source(str(tmp_path)).records()
    assert (record.audio, record.speaker, record.fault) == (path, "ann", "")
    assert " ".join((record.text or "").split()) == "Well, now."


def test_a_name_between_bars_is_a_speaker_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "metadata.csv").write_text("c1|anna|Good day.\nc2|bob|Text.\n")
    assert [(r.speaker, r.text) for r in open_source(str(tmp_path)).records()] == [
        ("anna", "Good day."),
        ("bob", "Text."),
    ]
    assert "column 2 is read as the speaker, such as 'anna'" in caplog.text
    (tmp_path / "metadata.csv").write_text(
        "c1|Dr. Lee has 5 cats.|Doctor Lee has five cats.\nc2|It is $5.|It is five dollars.\n"
    )
    assert {r.speaker for r in open_source(str(tmp_path)).records()} == {""}
    with (tmp_path / "metadata.csv").open("a") as file:
        file.write("c3|The owl sees|my old house now.\nc4|One half | and one half.\n")
    assert [bool(r.fault) for r in open_source(str(tmp_path)).records()] == [False, False, True, True]


def test_a_text_beside_a_recording_may_be_named_in_capitals_or_be_windows_1252(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = layouts.audio(tmp_path, layouts.Spoken("UP", "", ""))
    clip.with_suffix(".TXT").write_bytes("A café, mon ami.".encode("cp1252"))
    (record,) = open_source(str(tmp_path)).records()
    assert record.text == "A café, mon ami." and f"a text in {tmp_path} is not UTF-8" in caplog.text
    clip.with_suffix(".TXT").write_bytes(bytes(range(256)))
    (record,) = open_source(str(tmp_path)).records()
    assert record.text == "\ufffd"  # which is rejected


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"a.csv": "x|y", "b.csv": "x|y"}, "there are several tables (a.csv, b.csv): name the one that is to be read"),
        ({"a.csv": "name,what\n1,2"}, "a.csv begins with 'name,what', which names no audio and text column"),
        ({"list.txt": "c1|Text."}, "list.txt looks like a table of name|text: call it metadata.csv"),
    ],
)
def test_what_is_nearly_a_corpus_says_what_it_lacks(files: dict[str, str], told: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert told in refused(tmp_path)


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
