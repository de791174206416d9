import json

import numpy as np
import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.reports.summary import summarize, worst_items, write_report
from voicegraft.evaluation.speech.items import Clip, Item, judge_clip, mean_voices, open_rows, run_items

RATE = 24_000

pytest.importorskip("jiwer")


def clip_of(num_words, pitch=200, **facts):
    time = np.arange(num_words * RATE // 5) / RATE
    return Clip((0.5 * np.cos(2 * np.pi * pitch * time)).astype(np.float32), RATE, **facts)


def item_of(name, text, produce=None, stage="speech"):
    return Item(stage, "ann", name, text, produce or (lambda: clip_of(len(text.split()))))


def test_a_row_holds_every_measure(judges):
    voices = mean_voices({"ann": [clip_of(5)], "bob": [clip_of(5, 400)]}, judges.speaker)
    clip = clip_of(4, wall_sec=0.4, first_audio_sec=0.1)
    row = judge_clip(item_of("1", "word word word"), clip, judges, voices)
    assert (row["word_errors"], row["num_words"]) == (1, 3)
    assert row["similarity"]["ann"] > 0.95 > 0.5 > row["similarity"]["bob"]
    assert row["duration_sec"] == pytest.approx(0.8)
    assert row["mos"]["ovrl"] == pytest.approx(3, abs=0.01)
    assert not row["ran_away"]
    assert json.loads(json.dumps(row)) == row


def test_digits_are_compared_as_they_are_spoken(judges):
    spoken = judge_clip(item_of("1", "2 word"), clip_of(2, spoken_text="word word"), judges, {})
    assert spoken["word_errors"] == 0
    # Without digits the text itself counts: a front end that drops words gains nothing.
    dropped = judge_clip(item_of("1", "word word word"), clip_of(2, spoken_text="word word"), judges, {})
    assert dropped["word_errors"] == 1


def test_too_long_and_not_ok_count_as_run_away(judges):
    long = judge_clip(item_of("1", "word"), clip_of(50), judges, {})
    stuck = judge_clip(item_of("1", "word"), clip_of(1, status="budget"), judges, {})
    fine = judge_clip(item_of("1", "word"), clip_of(1), judges, {})
    assert [row["ran_away"] for row in (long, stuck, fine)] == [True, True, False]


def test_a_failed_item_is_a_row_and_the_rest_goes_on(judges, tmp_path):
    def fail():
        raise VoicegraftError("no speakable character")

    items = [item_of("1", "word word", fail), item_of("2", "word word")]
    log = open_rows(tmp_path / "rows.jsonl", {})
    rows = run_items(items, judges, {}, log, progress=False)
    assert rows[0]["status"] == "error: no speakable character"
    assert (rows[0]["word_errors"], rows[0]["mos"], rows[0]["ran_away"]) == (2, {}, True)
    assert rows[1]["word_errors"] == 0
    summary = summarize(rows)[0]
    assert (summary["num_clips"], summary["num_scored"], summary["num_ran_away"]) == (2, 1, 1)


def test_an_interrupted_run_goes_on_where_it_stopped(judges, tmp_path):
    path, made = tmp_path / "rows.jsonl", []

    def items(stop_at=None):
        def produce(name):
            if name == stop_at:
                raise KeyboardInterrupt
            made.append(name)
            return clip_of(2)

        return [item_of(name, "word word", lambda name=name: produce(name)) for name in "abc"]

    with pytest.raises(KeyboardInterrupt):
        run_items(items(stop_at="c"), judges, {}, open_rows(path, {"pack": "x"}), progress=False)
    with path.open("ab") as file:
        file.write(b'{"stage": "speech", "voi')  # a line torn by the crash
    rows = run_items(items(), judges, {}, open_rows(path, {"pack": "x"}), progress=False)
    assert made == ["a", "b", "c"]
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert len(open_rows(path, {"pack": "x"}).rows) == 3


def test_rows_of_another_pack_are_refused(tmp_path):
    open_rows(tmp_path / "rows.jsonl", {"fingerprint": "one"})
    with pytest.raises(VoicegraftError, match=r"one.*two.*another output folder"):
        open_rows(tmp_path / "rows.jsonl", {"fingerprint": "two"})


def test_summary_is_by_stage_and_voice(judges):
    human = [judge_clip(item_of("1", "word " * 4, stage="recordings"), clip_of(4), judges, {})]
    timed = {"wall_sec": 0.4, "first_audio_sec": 0.1}
    ours = [
        judge_clip(item_of("1", "word " * 4), clip_of(4, **timed), judges, {}),
        judge_clip(item_of("2", "word " * 6), clip_of(8, **timed), judges, {}),
    ]
    first, second = summarize([*ours, *human])
    assert (first["stage"], second["stage"]) == ("recordings", "speech")
    assert first["rtf"] is None and first["first_audio_ms"] is None
    assert second["rtf"] == pytest.approx(0.8 / 2.4)
    assert second["first_audio_ms"]["median"] == pytest.approx(100)
    assert second["wer"]["value"] == pytest.approx(2 / 10)
    assert first["words_per_sec"] == pytest.approx(5, rel=0.02)
    assert second["words_per_sec"] == pytest.approx(10 / 2.4, rel=0.02)


def test_worst_items_are_those_of_the_pack(judges):
    human = judge_clip(item_of("h", "word", stage="recordings"), clip_of(3), judges, {})
    rows = [judge_clip(item_of(str(n), "word " * 5), clip_of(5 + n), judges, {}) for n in range(4)]
    assert [row["id"] for row in worst_items([human, *rows], num_items=2)] == ["3", "2"]
    assert "0" not in [row["id"] for row in worst_items(rows)]


def test_report_is_json_and_a_table(judges, tmp_path):
    rows = [judge_clip(item_of("1", "word | word"), clip_of(3), judges, {})]
    report = write_report(tmp_path, rows, {"fingerprint": "0123"})
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert report["rows"] == rows and report["environment"]["num_cores"] >= 1
    text = (tmp_path / "report.md").read_text()
    header, _, line = [row for row in text.splitlines() if row.startswith("|")][:3]
    assert header.count("|") == line.count("|")
    assert "| speech | ann | 1 | 0.500 [" in line
    assert "- fingerprint: 0123" in text
    assert not list(tmp_path.glob(".*.part"))
