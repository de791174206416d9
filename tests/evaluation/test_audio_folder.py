import json

import numpy as np
import pytest
import soundfile

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.speech import audio_folder
from voicegraft.evaluation.speech.test_sets import Prompt

RATE = 24_000


def write_audio(path, seconds=0.5):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.ones(round(seconds * RATE)), RATE)
    return path


def texts(folder, prompts=()):
    return {file.prompt.id: file.prompt.text for file in audio_folder.read_folder(folder, prompts)}


def test_texts_beside_the_files(tmp_path):
    for name in ("b.wav", "a.flac", "c.mp3", "d.opus"):
        if name.endswith("opus"):
            (tmp_path / name).write_bytes(b"not read yet")
        else:
            write_audio(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text(f"Text of\n {name[0]}.\n")
    assert texts(tmp_path) == {name: f"Text of {name}." for name in "abcd"}


def test_metadata_as_in_ljspeech(tmp_path):
    write_audio(tmp_path / "wavs" / "LJ001-0001.wav")
    write_audio(tmp_path / "wavs" / "LJ001-0002.wav")
    (tmp_path / "metadata.csv").write_text(
        'LJ001-0001|In 1452, "so"|In fourteen fifty-two, "so"\nLJ001-0002|plain text\nLJ001-0003|no such file\n'
    )
    first, second = audio_folder.read_folder(tmp_path)
    assert (first.prompt.text, first.spoken_text) == ('In 1452, "so"', 'In fourteen fifty-two, "so"')
    assert (second.prompt.text, second.spoken_text) == ("plain text", "plain text")


def test_a_manifest_of_ours(tmp_path):
    write_audio(tmp_path / "audio" / "x.wav")
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"audio": "audio/x.wav", "text": "said", "id": "17"}) + "\n")
    assert texts(tmp_path) == {"17": "said"}


def test_prompts_name_the_files_and_a_missing_one_is_a_failure(tmp_path):
    write_audio(tmp_path / "deep" / "0001.wav", 0.25)
    files = audio_folder.read_folder(tmp_path, [Prompt("0001", "one"), Prompt("0002", "two")])
    first, second = audio_folder.items_of("speech", "ann", tmp_path, files, 16_000)
    clip = first.produce()
    assert (first.key, clip.sample_rate, len(clip.samples)) == (("speech", "ann", "0001"), 16_000, 4_000)
    with pytest.raises(VoicegraftError, match="no audio called 0002"):
        second.produce()


def test_digits_are_spoken_where_nobody_wrote_how(tmp_path):
    write_audio(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text("I have 3 cats.")
    (file,) = audio_folder.read_folder(tmp_path)
    assert (file.prompt.text, file.spoken_text) == ("I have 3 cats.", "I have three cats.")


def test_the_digest_hears_the_audio_and_reads_the_text(tmp_path):
    path = write_audio(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text("word")
    before = audio_folder.digest(audio_folder.read_folder(tmp_path))
    assert audio_folder.digest(audio_folder.read_folder(tmp_path)) == before
    write_audio(path, 0.6)
    after = audio_folder.digest(audio_folder.read_folder(tmp_path))
    (tmp_path / "a.txt").write_text("other")
    assert len({before, after, audio_folder.digest(audio_folder.read_folder(tmp_path))}) == 3


@pytest.mark.parametrize(
    ("files", "prompts", "message"),
    [
        ({}, (), "expected audio"),
        ({"a.wav": None}, (), "expected a.txt beside it"),
        ({"a.wav": None, "a.txt": "..."}, (), "no word"),
        ({"a.wav": None, "metadata.csv": "b|text"}, (), "no line for a.wav"),
        ({"a.wav": None, "metadata.csv": "a,text"}, (), "metadata.csv:1"),
        ({"a.wav": None, "deep/a.wav": None}, (), "two files called a"),
        ({"a.wav": None}, (Prompt("0001", "word"),), "such as 0001.wav; it has a.wav"),
    ],
)
def test_folders_that_do_not_fit_are_named(files, prompts, message, tmp_path):
    for name, content in files.items():
        if content is None:
            write_audio(tmp_path / name)
        else:
            (tmp_path / name).write_text(content)
    with pytest.raises(VoicegraftError, match=message):
        audio_folder.read_folder(tmp_path, prompts)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(VoicegraftError, match="expected a folder"):
        audio_folder.read_folder(tmp_path / "missing")
