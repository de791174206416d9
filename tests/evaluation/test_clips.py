import numpy as np
import pytest

from tests.speech_report import RATE, make_clip
from voicegraft.evaluation.speech.clips import ClipFolder
from voicegraft.evaluation.speech.items import Clip, Item
from voicegraft.recipes.evaluate_speech import EvaluateSpeechConfig, evaluate_speech

pytest.importorskip("jiwer")
pytest.importorskip("matplotlib")


def make_item(name, stage="speech"):
    return Item(stage, "ann", name, "word", lambda: make_clip({}))


def as_row(item):
    return {"stage": item.stage, "voice": item.voice, "id": item.id}


def test_a_saved_clip_comes_back(tmp_path):
    clips, item, clip = ClipFolder(tmp_path, RATE), make_item("a/../b c"), make_clip({})
    clips.save(item, clip)
    found = clips.read(as_row(item))
    assert found.sample_rate == RATE
    np.testing.assert_allclose(found.samples, clip.samples, atol=1e-4)
    (path,) = tmp_path.rglob("*.flac")
    assert path.parent == tmp_path / "speech" / "ann"


def test_silence_and_recordings_are_not_saved(tmp_path):
    clips = ClipFolder(tmp_path, RATE)
    clips.save(make_item("recorded", "recordings"), make_clip({}))
    clips.save(make_item("silent"), Clip(np.zeros(0, np.float32), RATE))
    assert not list(tmp_path.rglob("*.flac"))
    assert clips.read(as_row(make_item("silent"))) is None


def test_only_new_clips_are_dropped(tmp_path):
    old, shown, left = make_item("old"), make_item("shown"), make_item("left")
    ClipFolder(tmp_path, RATE).save(old, make_clip({}))
    clips = ClipFolder(tmp_path, RATE)
    clips.save(shown, make_clip({}))
    clips.save(left, make_clip({}))
    clips.drop_new(but=[as_row(shown)])
    assert sorted(path.stem for path in tmp_path.rglob("*.flac")) == ["old", "shown"]


def test_an_evaluation_keeps_the_clips_of_its_page_for_the_next(bare, speaker, judges, tmp_path):
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out"
    prompts.write_text("".join("word " * (1 + n) + "\n" for n in range(18)))

    def run(limit, keep_audio=False):
        config = EvaluateSpeechConfig(out, prompts, voices=("ann",), limit=limit, keep_audio=keep_audio)
        evaluate_speech(config, speaker, judges, progress=False)
        num_players = (out / "report.html").read_text(encoding="utf-8").count("<audio")
        return num_players, sorted(path.stem for path in out.rglob("*.flac"))

    num_players, kept = run(16)
    assert 10 <= num_players == len(kept) < 16
    assert run(16) == (num_players, kept)
    _, more = run(18, keep_audio=True)
    assert set(more) == {*kept, "0017", "0018"}
