import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.ingest import survey
from voicegraft.data.sources.detect import open_source
from voicegraft.data.splits import Splits
from voicegraft.evaluation.speech.recordings import find_recordings
from voicegraft.evaluation.speech.test_sets import read_prompts
from voicegraft.recipes.evaluate_speech import EvaluateSpeechConfig, evaluate_speech, main

pytest.importorskip("jiwer")


def make_recordings(folder, speaker, pitch, num_clips=25, num_val=0):
    """Clips of three words, a fifth of a second each."""
    folder.mkdir()
    time = np.arange(3 * 24_000 // 5) / 24_000
    samples = 0.2 * np.cos(2 * np.pi * pitch * time)
    lines = []
    for n in range(num_clips):
        soundfile.write(folder / f"{n}.wav", samples, 24_000)
        split = "val" if n < num_val else "train"
        row = {"audio": f"{n}.wav", "text": "word word word", "speaker": speaker, "id": str(n)}
        lines.append(json.dumps({**row, "duration": 0.6, "sample_rate": 24_000, "split": split}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def folders(tmp_path):
    return (
        make_recordings(tmp_path / "first", "Ann", 200, num_val=3),
        make_recordings(tmp_path / "second", "bob", 400, num_val=20),
    )


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("word word word\n\nword 2\nword\n")
    return path


def test_recordings_are_the_clips_that_are_held_back(folders):
    found = find_recordings(folders, ["ann"])
    assert {voice: [clip.id for clip in human.clips] for voice, human in found.items()} == {
        "ann": ["0", "1", "2"], "bob": [str(n) for n in range(20)],
    }  # fmt: skip


@pytest.mark.parametrize("share", [0.0005, 0.02, 0.3])
def test_recordings_are_held_back_by_prepare_too(share, tmp_path):
    words = ("owl", "dog", "cat", "cow", "hen", "fox", "bear")
    rows = [{"audio": f"{n}.wav", "text": f"The {words[n % 7]} saw {words[n // 7 % 7]} {n}."} for n in range(400)]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prepared = survey(open_source(str(tmp_path)), Splits(share)).splits
    (human,) = find_recordings([tmp_path], []).values()
    assert len(human.clips) == 20 and all(prepared(clip.text) == "val" for clip in human.clips)


def test_every_stage_of_every_voice_is_judged(folders, prompts, speaker, judges, tmp_path):
    config = EvaluateSpeechConfig(tmp_path / "out", prompts, recordings=folders, limit=2, keep_audio=True)
    report = evaluate_speech(config, speaker, judges, progress=False)
    found = {(one["stage"], one["voice"]): one for one in report["summary"]}
    stages = ["recordings", "semantic re-synthesis", "codec re-synthesis", "speech"]
    assert list(found) == [(stage, voice) for stage in stages for voice in ("ann", "bob")]
    for (stage, voice), summary in found.items():
        assert summary["num_clips"] == 2
        assert summary["wer"]["value"] == 0
        other = "bob" if voice == "ann" else "ann"
        assert summary["similarity"][voice] > 0.9 > 0.6 > summary["similarity"][other]
        assert (summary["rtf"] is None) == (stage == "recordings")
        assert (summary["first_audio_ms"] is None) == (stage != "speech")
    assert report["about"]["fingerprint"] == speaker.fingerprint
    assert len(list((tmp_path / "out" / "audio").rglob("*.flac"))) == 3 * 2 * 2


def test_a_second_run_synthesises_nothing_and_a_larger_limit_only_the_rest(bare, prompts, speaker, judges, tmp_path):
    def run(limit):
        speaker.said.clear()
        config = EvaluateSpeechConfig(tmp_path / "out", prompts, voices=("bob",), limit=limit)
        return evaluate_speech(config, speaker, judges, progress=False)

    first = run(2)
    assert run(2)["rows"] == first["rows"] and speaker.said == []
    assert len(run(3)["rows"]) == 3
    assert speaker.said[1:] == [("word", "bob")]  # after one unmeasured warm-up
    speaker.fingerprint = "another"
    with pytest.raises(VoicegraftError, match="fingerprint"):
        run(2)


def test_endings_are_counted(bare, speaker, judges, tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("word\nword forever\nword stuck\nmute\n")
    config = EvaluateSpeechConfig(tmp_path / "out", path, voices=("ann",))
    report = evaluate_speech(config, speaker, judges, progress=False)
    assert [row["ran_away"] for row in report["rows"]] == [False, True, True, True]


def test_recordings_alone_need_no_pack(bare, folders, judges, tmp_path):
    config = EvaluateSpeechConfig(tmp_path / "out", recordings=folders, stages=("recordings",))
    report = evaluate_speech(config, None, judges, progress=False)
    assert [(one["voice"], one["num_clips"]) for one in report["summary"]] == [("Ann", 3), ("bob", 20)]
    assert report["about"]["fingerprint"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to evaluate"),
        ({"stages": ("speech",), "recordings": True}, "needs --prompts"),
        ({"stages": ("recordings",), "prompts": True}, "needs --recordings"),
        ({"prompts": True, "voices": ("eve",)}, "no voice 'eve'.*ann, bob"),
        ({"prompts": True, "test_set": "seed-tts-eval"}, "give one of them"),
        ({"test_set": "seed-tts-eval"}, "--test-set-dir"),
    ],
)
def test_inputs_that_do_not_fit_are_named(options, message, folders, prompts, speaker, judges, tmp_path):
    given = {**options}
    if "recordings" in given:
        given["recordings"] = folders
    if "prompts" in given:
        given["prompts"] = prompts
    with pytest.raises(VoicegraftError, match=message):
        evaluate_speech(EvaluateSpeechConfig(tmp_path / "out", **given), speaker, judges, progress=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\n \n", "holds no prompt"), (b"\xff\0", "UTF-8"), (b"fine\n...\n", "no word")],
)
def test_bad_prompts_are_refused(content, message, tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(VoicegraftError, match=message):
        read_prompts(path)
    with pytest.raises(VoicegraftError, match="cannot read"):
        read_prompts(tmp_path / "missing.txt")


def make_audio(folder, pitch, texts):
    """What another system made of some texts, each in a file called by its id."""
    folder.mkdir()
    for name, text in texts.items():
        time = np.arange(len(text.split()) * 24_000 // 5) / 24_000
        soundfile.write(folder / f"{name}.wav", 0.4 * np.cos(2 * np.pi * pitch * time), 24_000)
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_audio_of_another_system_is_judged_like_speech(bare, folders, judges, tmp_path):
    audio = make_audio(tmp_path / "made", 400, {"x": "word word", "y": "word word word word"})
    config = EvaluateSpeechConfig(tmp_path / "out", recordings=folders, audio=(("Bob", audio),))
    report = evaluate_speech(config, None, judges, progress=False)
    assert [(one["stage"], one["voice"], one["num_clips"]) for one in report["summary"]] == [
        ("recordings", "Ann", 3), ("recordings", "bob", 20), ("speech", "bob", 2),
    ]  # fmt: skip
    spoken = report["summary"][2]
    assert spoken["wer"]["value"] == 0 and spoken["rtf"] is None
    assert spoken["similarity"]["bob"] > 0.9 > 0.6 > spoken["similarity"]["Ann"]
    assert spoken["against_recordings"]["words_per_sec"]["distance"] == pytest.approx(0, abs=0.1)
    assert report["about"]["audio"] == {"bob": 2}
    (audio / "x.txt").write_text("changed")
    with pytest.raises(VoicegraftError, match=r"audio.*another output folder"):
        evaluate_speech(config, None, judges, progress=False)


def test_prompts_are_the_texts_of_audio_and_no_pack_is_loaded(bare, prompts, judges, tmp_path):
    audio = make_audio(tmp_path / "made", 400, {"0001": "word word word", "0003": "word"})
    config = EvaluateSpeechConfig(tmp_path / "out", prompts, audio=(("piper", audio),))
    report = evaluate_speech(config, None, judges, progress=False)
    assert [(row["id"], row["text"], row["word_errors"]) for row in report["rows"]] == [
        ("0001", "word word word", 0), ("0002", "word 2", 2), ("0003", "word", 0),
    ]  # fmt: skip
    assert report["rows"][1]["status"].startswith("error: no audio called 0002")
    assert report["about"]["pack"] is None


def test_two_systems_of_one_voice_are_set_beside_each_other_not_mixed(prompts, speaker, judges, tmp_path):
    audio = make_audio(tmp_path / "made", 400, {"0001": "word"})
    config = EvaluateSpeechConfig(tmp_path / "out", prompts, audio=(("bob", audio),))
    with pytest.raises(VoicegraftError, match=r"voice 'bob' too.*evaluate compare"):
        evaluate_speech(config, speaker, judges, progress=False)


@pytest.fixture
def seed_tts(tmp_path):
    folder = tmp_path / "seedtts" / "en"
    (folder / "prompt-wavs").mkdir(parents=True)
    time = np.arange(24_000) / 24_000
    soundfile.write(folder / "prompt-wavs" / "p.wav", 0.4 * np.cos(2 * np.pi * 400 * time), 24_000)
    (folder / "meta.lst").write_text("u1|Said.|prompt-wavs/p.wav|Word-word word!\nu2|Said.|prompt-wavs/p.wav|word\n")
    return folder


def test_a_test_set_prescribes_texts_and_their_form(bare, seed_tts, speaker, judges, tmp_path):
    audio = make_audio(tmp_path / "made", 400, {"u1": "word word", "u2": "word word"})
    options = {"test_set": "seed-tts-eval", "test_set_dir": seed_tts, "audio": (("clone", audio),), "voices": ("ann",)}
    report = evaluate_speech(EvaluateSpeechConfig(tmp_path / "out", **options), speaker, judges, progress=False)
    rows = {(row["voice"], row["id"]): row for row in report["rows"]}
    assert list(rows) == [("ann", "u1"), ("ann", "u2"), ("clone", "u1"), ("clone", "u2")]
    assert rows["clone", "u1"]["reference"] == "wordword word"
    assert rows["clone", "u1"]["prompt_similarity"] > 0.9
    assert rows["ann", "u1"]["prompt_similarity"] is None  # a pack does not clone
    estimates = {one["voice"]: one["estimates"] for one in report["summary"]}
    assert estimates["clone"]["wer_per_item"]["value"] == pytest.approx((1 / 2 + 1 / 1) / 2)
    assert estimates["clone"]["wer"]["value"] == pytest.approx(2 / 3)
    assert report["about"]["protocol"]["name"] == report["about"]["judges"]["texts"] == "seed-tts-eval"
    text = (tmp_path / "out" / "report.md").read_text()
    assert "## As seed-tts-eval" in text and "openai/whisper-large-v3" in text


def test_rows_of_other_judges_are_refused(bare, prompts, speaker, judges, tmp_path):
    config = EvaluateSpeechConfig(tmp_path / "out", prompts, voices=("ann",))
    evaluate_speech(config, speaker, replace(judges, names={"recognizer": "one"}), progress=False)
    with pytest.raises(VoicegraftError, match=r"judges.*one.*two"):
        evaluate_speech(config, speaker, replace(judges, names={"recognizer": "two"}), progress=False)


def test_the_command_line_chooses_judges_and_audio(bare, judges, tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        "voicegraft.recipes.evaluate_speech.load_judges", lambda *names: (asked.append(names), judges)[1]
    )
    audio = make_audio(tmp_path / "made", 400, {"x": "word"})
    chosen = ["--recognizer", "whisper:w", "--mos", "utmos:u", "--speaker-judge", "wavlm-sv:s", "--fault-judge", "none"]
    main(["--audio", f"piper={audio}", *chosen, "--out", str(tmp_path / "out")])
    assert asked == [("whisper:w", "utmos:u", "wavlm-sv:s", "none")]
    assert "| speech | piper | 1 |" in capsys.readouterr().out
    with pytest.raises(VoicegraftError, match="expected --audio NAME=VALUE, got 'piper'"):
        main(["--audio", "piper", "--out", str(tmp_path / "out")])
    with pytest.raises(VoicegraftError, match="no stage 'song'; choose among recordings"):
        main(["--audio", f"piper={audio}", "--stages", "song", "--out", str(tmp_path / "out")])


def test_command_line_prints_the_table(bare, folders, judges, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("voicegraft.recipes.evaluate_speech.load_judges", lambda *names: judges)
    out = tmp_path / "out"
    main(["--recordings", str(folders[0]), "--stages", "recordings", "--out", str(out)])
    assert "| recordings | Ann | 3 |" in capsys.readouterr().out
    assert (out / "report.json").exists()
