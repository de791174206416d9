import json

import numpy as np
import pytest
import soundfile

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.metrics.rates import EditCounts, word_edits
from voicegraft.evaluation.speech.test_sets import (
    drop_marks,
    read_librispeech_pc,
    read_seed_tts,
    read_test_set,
    seed_tts_form,
)


def write_audio(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(1600), 16_000)
    return path


@pytest.mark.parametrize(
    ("text", "seed", "librispeech"),
    [
        ("It's  a well-known “trick”, isn’t it?", "it's a wellknown trick isnt it", "its a wellknown trick isnt it"),
        ('So there is to me"! added Sandford - ok', "so there is to me added sandford ok", None),
        ("It costs $5 & more_or_less @home", "it costs 5 moreorless home", None),
        ("Wait... what—now? CAFÉ", "wait whatnow café", None),
        ("你好，世界。", "你好世界", None),
        ("?!", "", None),
    ],
)
def test_texts_are_compared_as_the_test_sets_compare_them(text, seed, librispeech):
    assert seed_tts_form(text) == seed
    assert drop_marks(text) == (librispeech or seed)


def test_word_errors_take_another_form():
    pytest.importorskip("jiwer")
    assert word_edits("A well-known trick", "a wellknown trick", seed_tts_form) == EditCounts(0, 3)
    assert word_edits("A well-known trick", "a wellknown trick").errors > 0
    assert word_edits("?", "two words", seed_tts_form) == EditCounts(2, 0)


def test_seed_tts_lists_are_read(tmp_path):
    (tmp_path / "meta.lst").write_text(
        "common_voice_en_1-common_voice_en_2|Said before.|prompt-wavs/common_voice_en_1.wav|To say, 2 times.\n"
        "\n"
        "b|Said before.|prompt-wavs/b.wav|Another.|wavs/b.wav\n",
        encoding="utf-8",
    )
    first, second = read_seed_tts(tmp_path)
    assert (first.id, first.text) == ("common_voice_en_1-common_voice_en_2", "To say, 2 times.")
    assert first.voice == tmp_path / "prompt-wavs" / "common_voice_en_1.wav"
    assert (second.id, second.text) == ("b", "Another.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a|b|c\n", r"meta.lst:1: expected id\|prompt text"),
        ("a|b|c.wav|\n", "meta.lst:1"),
        ("a|b|../../c.wav|text\n", "outside that folder"),
        ("", "empty"),
        (None, "cannot read"),
    ],
)
def test_other_lists_are_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / "meta.lst").write_text(content)
    with pytest.raises(VoicegraftError, match=message):
        read_seed_tts(tmp_path)


PAIRS = "librispeech_pc_test_clean_cross_sentence.lst"
LINE = "4992-41806-0009\t4.355\texclaimed Bill to his wife.\t4992-23283-0000\t6.645\tBut the more she awoke.\n"


@pytest.mark.parametrize("place", ["", "test-clean", "LibriSpeech/test-clean"])
def test_librispeech_pairs_are_read_and_their_voices_found(place, tmp_path):
    (tmp_path / PAIRS).write_text(LINE)
    voice = write_audio(tmp_path / place / "4992" / "41806" / "4992-41806-0009.flac")
    _, (prompt,) = read_test_set("librispeech-pc", tmp_path)
    assert (prompt.id, prompt.text, prompt.voice) == ("4992-23283-0000", "But the more she awoke.", voice)


def test_the_manifest_of_librispeech_pc_gives_clips_of_four_to_ten_seconds(tmp_path):
    rows = [
        {"audio_filepath": f"test-clean/1/2/1-2-000{n}.flac", "duration": 3.0 + 3.5 * n, "text": f"Text {n}."}
        for n in range(4)
    ]
    (tmp_path / "test-clean.json").write_text("\n".join(map(json.dumps, rows)))
    assert [(p.id, p.text, p.voice) for p in read_librispeech_pc(tmp_path)] == [
        ("1-2-0001", "Text 1.", None),
        ("1-2-0002", "Text 2.", None),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (PAIRS, "a\tb\n", "between tabs"),
        ("test-clean.json", "{}\n", "audio_filepath, duration, text"),
        ("other", "", "found neither"),
    ],
)
def test_other_layouts_of_librispeech_are_refused(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(VoicegraftError, match=message):
        read_librispeech_pc(tmp_path)


def test_voices_are_there_altogether_or_not_at_all(tmp_path):
    (tmp_path / "meta.lst").write_text("a|x|a.wav|To say.\nb|x|b.wav|To say.\n")
    test_set, prompts = read_test_set("seed-tts-eval", tmp_path)
    assert test_set.normalize is seed_tts_form
    assert [prompt.voice for prompt in prompts] == [None, None]
    write_audio(tmp_path / "a.wav")
    with pytest.raises(VoicegraftError, match=r"1 of the 2 recordings.*b\.wav"):
        read_test_set("seed-tts-eval", tmp_path)
    write_audio(tmp_path / "b.wav")
    assert read_test_set("seed-tts-eval", tmp_path)[1][1].voice == tmp_path / "b.wav"


def test_a_test_set_needs_a_name_and_a_folder(tmp_path):
    with pytest.raises(VoicegraftError, match="seed-tts-eval, librispeech-pc"):
        read_test_set("other", tmp_path)
    with pytest.raises(VoicegraftError, match="--test-set-dir"):
        read_test_set("seed-tts-eval", None)
