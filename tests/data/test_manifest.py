import json
from pathlib import Path
from typing import Any

import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.manifest import Utterance, read_corpus, read_manifest, write_manifest

GOOD = {"audio": "a.wav", "text": "Hello.", "speaker": "ann", "duration": 1.5}


def write_lines(folder: Path, *lines: Any) -> Path:
    folder.mkdir(exist_ok=True)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "manifest.jsonl").write_text(text + "\n", encoding="utf-8")
    return folder


def utterance(number: int, split: str) -> Utterance:
    return Utterance(str(number), "", "text", "ann", split, 1.0)


@pytest.mark.parametrize("text", ["Hello.", "naïve — “quoted”", "line\nbreak", "separators \u2028 \x85 \x0b of old"])
def test_what_is_written_is_read(text: str, tmp_path: Path) -> None:
    rows = [
        Utterance("1", "clips/1.wav", text, "ann", "train", 1.5, ("^", "ah", "."), (0.1, 0.9, 1.5)),
        Utterance("2", "", text, "ben", "test", 0.25),
    ]
    write_manifest(tmp_path / "new" / "folder", rows)
    assert read_manifest(tmp_path / "new" / "folder") == rows


def test_a_recordings_folder_needs_only_audio_and_text(tmp_path: Path) -> None:
    write_lines(tmp_path / "kate", {"audio": "wavs/x 1.flac", "text": "Hi."}, GOOD)
    first, second = read_manifest(tmp_path / "kate")
    assert first == Utterance("x 1", "wavs/x 1.flac", "Hi.", "kate", "train", 0.0)
    assert (second.speaker, second.duration_sec) == ("ann", 1.5)


@pytest.mark.parametrize("name", ["../secret.wav", "/etc/passwd", "clips/../../x.wav"])
def test_a_path_that_leaves_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match="lies outside that folder"):
        read_manifest(write_lines(tmp_path / "m", {**GOOD, "audio": name}))


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    folder = write_lines(tmp_path / "m", {**GOOD, "audio": "link/a.wav"})
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(VoicegraftError, match="outside"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "line",
    [
        "{broken",
        '"a string"',
        "[1, 2]",
        "7",
        {"audio": "a.wav"},
        {"text": "no audio"},
        {**GOOD, "duration": "long"},
    ],
)
def test_a_bad_line_is_named_with_its_number(line: Any, tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match=r"manifest\.jsonl:2: .*expected a JSON object with audio"):
        read_manifest(write_lines(tmp_path, GOOD, line, GOOD))


def test_no_manifest_and_an_empty_one_are_errors(tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match=r"found none in .*fields audio, text"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.jsonl").write_text("")
    with pytest.raises(VoicegraftError, match="is empty"):
        read_manifest(tmp_path)


def test_old_ids_say_what_is_synthetic_where_nothing_else_does(tmp_path: Path) -> None:
    rows = [{"id": name, "audio": "", "text": "a"} for name in ("flite-000001", "ann-1")]
    rows.append({"id": "flite-fan", "audio": "", "text": "a", "synthetic": False})
    rows.append({"id": "made", "audio": "", "text": "a", "synthetic": True})
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    read = read_manifest(tmp_path)
    assert [u.synthetic for u in read] == [True, False, False, True]
    write_manifest(tmp_path / "again", read)
    assert read_manifest(tmp_path / "again") == read


def test_the_text_is_the_one_that_prepare_takes(tmp_path: Path) -> None:
    """Held back is decided by it."""
    (tmp_path / "manifest.jsonl").write_text(json.dumps({**GOOD, "text": "$5", "normalized_text": "Five dollars"}))
    assert read_manifest(tmp_path)[0].text == "Five dollars"


def test_a_corpus_that_holds_something_back_keeps_its_splits(tmp_path: Path) -> None:
    splits = ["train", "val", "train", "test", "train"]
    write_manifest(tmp_path, [utterance(i, split) for i, split in enumerate(splits)])
    assert [u.split for u in read_corpus(tmp_path)] == splits


def test_a_manifest_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_bytes('{"audio": "a.wav", "text": "café"}'.encode("latin-1"))
    with pytest.raises(VoicegraftError, match="expected a UTF-8 text file"):
        read_manifest(tmp_path)
