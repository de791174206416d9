"""Making a listening test: what is in the page, and what is not."""

import base64
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.listening import RATE, write_voices
from voicegraft import cli
from voicegraft.audio.io import write_audio
from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.judges.base import JUDGE_RMS
from voicegraft_listening.page import ANCHOR, RECORDINGS, ListeningTestConfig, low_anchor, make_listening_test

NUM_SENTENCES = 5  # with the one for practice


@pytest.fixture
def config(tmp_path: Path) -> ListeningTestConfig:
    return ListeningTestConfig(
        systems=tuple((n, write_voices(tmp_path, n, NUM_SENTENCES)) for n in ("splendid", "horrible")),
        recordings=write_voices(tmp_path, "narrator", NUM_SENTENCES + 1),
        parts=("mos", "ab"),
        num_checks=2,
        out=tmp_path / "out",
    )


def changed(config: ListeningTestConfig, **fields: Any) -> ListeningTestConfig:
    return ListeningTestConfig(**{**vars(config), **fields})


def plan_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="test">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found.group(1))


def test_listeners_learn_no_names(config: ListeningTestConfig) -> None:
    key = make_listening_test(config)
    assert [path.name for path in (config.out / "page").iterdir()] == ["index.html"]
    assert json.loads((config.out / "key.json").read_text()) == key
    page = (config.out / "page" / "index.html").read_text()
    for secret in ("splendid", "horrible", "narrator", RECORDINGS, ANCHOR, "sentence_0", str(config.out), "@"):
        assert secret not in page.replace("@media", ""), secret
    # Conditions are numbers that do not follow the order of the systems every time.
    numbers = set()
    for attempt in range(12):
        key = make_listening_test(changed(config, out=config.out.parent / str(attempt)))
        items = key["parts"][0]["pools"][0]["items"]
        numbers.add(next(i["condition"] for i in items if key["clips"][i["clips"][0]]["system"] == "splendid"))
    assert len(numbers) > 1


def test_the_page_reaches_nobody(config: ListeningTestConfig) -> None:
    make_listening_test(config)
    page = (config.out / "page" / "index.html").read_text()
    assert "default-src 'none'" in page and "connect-src" not in page
    assert not re.search(r"https?://|fetch\(|XMLHttpRequest|<link|@import|src=", page)


def test_all_clips_have_one_rate_and_one_level(config: ListeningTestConfig, tmp_path: Path) -> None:
    long = np.concatenate([np.zeros(9000), np.sin(np.arange(9000) / 5), np.zeros(9000)]).astype(np.float32)
    write_audio(tmp_path / "splendid" / "sentence_00.wav", long, 24_000)
    key = make_listening_test(config)
    page = (config.out / "page" / "index.html").read_text()
    clips = dict(re.findall(r'<script type="text/plain" id="clip-(\w+)">(.*?)</script>', page))
    assert clips.keys() == key["clips"].keys()
    for clip, text in clips.items():
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(text)))
        assert rate == 24_000 == key["sample_rate"]
        assert key["clips"][clip]["duration_ms"] == round(1000 * len(samples) / rate) < 700  # silence was cut off
        frames = samples[: len(samples) // 480 * 480].reshape(-1, 480)
        levels = np.sqrt((frames**2).mean(1))
        active = levels[levels > 0.01 * levels.max()]
        assert np.sqrt((active**2).mean()) == pytest.approx(JUDGE_RMS, rel=0.02)


def test_every_condition_says_every_sentence_and_practice_is_apart(config: ListeningTestConfig) -> None:
    key = make_listening_test(config)
    mos, ab = key["parts"]
    clips = key["clips"]
    items = mos["pools"][0]["items"]
    assert Counter(clips[i["clips"][0]]["system"] for i in items) == {
        "splendid": 4, "horrible": 4, RECORDINGS: 4, ANCHOR: 4,
    }  # fmt: skip
    pairs, catches = (pool["items"] for pool in ab["pools"])
    assert all({clips[c]["system"] for c in p["clips"]} == {"splendid", "horrible"} for p in pairs) and len(pairs) == 4
    assert all({clips[c]["system"] for c in p["clips"]} == {RECORDINGS, ANCHOR} for p in catches)
    assert (ab["pools"][0]["take"], ab["pools"][1]["take"], ab["num_repeats"]) == (4, 2, 2)
    for item in (*items, *pairs, *catches):
        assert len({clips[c]["sentence"] for c in item["clips"]}) == 1
        assert clips[item["clips"][0]]["sentence"] in key["sentences"]
    assert key["practice_sentence"] == "sentence_04" not in key["sentences"]
    plan = plan_of((config.out / "page" / "index.html").read_text())
    practised = [c for part in plan["parts"] for item in part["practice"] for c in item["clips"]]
    assert {clips[c]["sentence"] for c in practised} == {"sentence_04"}
    assert {clips[c]["system"] for c in practised} == {RECORDINGS, ANCHOR}


def test_without_recordings_the_first_system_is_the_anchors_source(config: ListeningTestConfig) -> None:
    key = make_listening_test(changed(config, recordings=None, num_sentences=2))
    assert {clip["system"] for clip in key["clips"].values()} == {"splendid", "horrible", ANCHOR}
    assert key["sentences"] == ["sentence_00", "sentence_01"] and key["practice_sentence"] == "sentence_02"


def test_texts_are_shown_and_cannot_break_out(config: ListeningTestConfig, tmp_path: Path) -> None:
    texts = [f"<b>{n}</script><script>alert(1)</script> @CLIPS@" for n in range(NUM_SENTENCES)]
    rows = [json.dumps({"file": f"sentence_{n:02d}.wav", "text": text}) for n, text in enumerate(texts)]
    (tmp_path / "report.jsonl").write_text("\n".join(rows))
    make_listening_test(changed(config, texts=tmp_path / "report.jsonl"))
    page = (config.out / "page" / "index.html").read_text()
    assert "alert(1)</script>" not in page
    assert set(plan_of(page)["texts"].values()) == set(texts)


def test_the_low_anchor_is_a_noisy_robot_behind_a_low_pass() -> None:
    time = np.arange(2 * RATE) / RATE
    glide = sum(np.sin(2 * np.pi * k * (180 * time + 30 * time**2)) / k for k in range(1, 30))
    speech = np.where(time > 1, 0.1 * glide, 0).astype(np.float32)
    anchor = low_anchor(speech, RATE)
    assert anchor.shape == speech.shape and anchor.dtype == np.float32
    power = np.abs(np.fft.rfft(anchor[RATE:])) ** 2
    frequency = np.fft.rfftfreq(RATE, 1 / RATE)
    assert power[frequency > 3600].sum() < 1e-4 * power.sum()
    assert np.abs(anchor[: RATE - 1000]).max() < 0.02 * np.abs(anchor).max()  # noise in proportion to speech
    # The glide of the voice is gone: half of the power stands on multiples of 100 Hz, which are a tenth of the band.
    on_note = np.abs(frequency - 100 * np.round(frequency / 100)) < 5
    assert power[on_note].sum() > 0.4 * power.sum()
    before = np.abs(np.fft.rfft(speech[RATE:])) ** 2
    assert before[on_note].sum() < 0.2 * before.sum()


def test_a_test_that_exists_is_not_written_over(config: ListeningTestConfig) -> None:
    make_listening_test(config)
    before = (config.out / "key.json").read_bytes()
    with pytest.raises(VoicegraftError, match="holds files"):
        make_listening_test(config)
    assert (config.out / "key.json").read_bytes() == before


def test_mistakes_are_told(config: ListeningTestConfig, tmp_path: Path) -> None:
    folder = config.systems[0][1]
    (tmp_path / "texts.jsonl").write_text('{"file": "sentence_00.wav", "text": "Go."}')
    (tmp_path / "list.jsonl").write_text("[1]")
    for fields, message in (
        ({"systems": ()}, "--system NAME=FOLDER"),
        ({"systems": (("a", folder), ("a", folder))}, "'a' is taken"),
        ({"systems": ((ANCHOR, folder), ("a", folder))}, "is taken"),
        ({"systems": (("a", folder),)}, "at least twice"),
        ({"systems": (("a", tmp_path / "none"), ("b", folder))}, "found none at"),
        ({"parts": ("mos", "mos")}, "each once"),
        ({"num_sentences": 5}, "at least 6 audio files"),
        ({"num_sentences": 0}, "--sentences of 1"),
        ({"num_checks": -1}, "--checks of 0"),
        ({"per_listener": 3}, "all 4 conditions"),
        ({"texts": tmp_path / "texts.jsonl"}, "no text for 4 of 5"),
        ({"texts": tmp_path / "list.jsonl"}, "cannot read texts"),
    ):
        with pytest.raises(VoicegraftError, match=re.escape(message)):
            make_listening_test(changed(config, **fields))
    assert not config.out.exists()
    write_audio(folder / "sentence_00.flac", np.ones(9, np.float32), RATE)
    with pytest.raises(VoicegraftError, match="'sentence_00' twice"):
        make_listening_test(config)
    (folder / "sentence_00.flac").unlink()
    write_audio(folder / "sentence_00.wav", np.zeros(RATE, np.float32), RATE)
    with pytest.raises(VoicegraftError, match="no sound"):
        make_listening_test(config)
    (folder / "sentence_00.wav").write_text("words")
    with pytest.raises(VoicegraftError, match="cannot read"):
        make_listening_test(config)


def test_the_command_line_makes_it(config: ListeningTestConfig, capsys: pytest.CaptureFixture[str]) -> None:
    systems = [text for name, folder in config.systems for text in ("--system", f"{name}={folder}")]
    arguments = ["listen-test", "make", *systems, "--per-listener", "3", "--checks", "1", "--out", str(config.out)]
    assert cli.main(arguments) == 0
    assert "mos: 12 items of 4 sentences; 4 for each listener" in capsys.readouterr().out
    assert cli.main(["listen-test", "make", "--system", "x", "--out", "y"]) == 2
    assert "expected --system NAME=VALUE, got 'x'" in capsys.readouterr().err
