import json

import numpy as np
import pytest

from voicegraft.evaluation.judges.base import Judges
from voicegraft.evaluation.metrics.measures import BY_NAME, PROSODY, RATES, against, estimates, fault_rates, values_of
from voicegraft.evaluation.reports.summary import summarize, write_report
from voicegraft.evaluation.speech.items import Clip, Item, judge_clip

RATE = 24_000

pytest.importorskip("jiwer")
pytest.importorskip("scipy")


def clip_of(num_words, pitch=150, pause_sec=0.0, **facts):
    """A fifth of a second per word, and a pause after the first."""
    word = 0.4 * np.cos(2 * np.pi * pitch * np.arange(RATE // 5) / RATE)
    parts = [word, np.zeros(round(pause_sec * RATE)), *[word] * (num_words - 1)]
    return Clip(np.concatenate(parts).astype(np.float32), RATE, **facts)


class Rater:
    """Finds a fault in every clip that is to say so."""

    def faults(self, samples, sample_rate, text):
        return ("repeat",) if "twice" in text else ()


def judged(judges, num, stage="speech", text="word word word", **options):
    facts = {name: options.pop(name) for name in ("faults", "num_retries", "status", "wall_sec") if name in options}
    item = Item(stage, "ann", str(num), text, lambda: None)
    return judge_clip(item, clip_of(len(text.split()), **options, **facts), judges, {})


def test_a_row_tells_melody_pauses_and_faults(judges):
    row = judged(judges, 1, pause_sec=0.4, faults=("skip",), num_retries=2)
    assert row["pitch"]["median_hz"] == pytest.approx(150, rel=0.03)
    assert row["pauses_sec"] == pytest.approx([0.4], abs=0.03)
    assert (row["faults"], row["num_retries"], row["faults_judged"]) == (["skip"], 2, False)
    assert not row["ran_away"]  # neither a fault nor a retry is an ending
    assert json.loads(json.dumps(row)) == row


def test_a_judge_of_faults_is_asked_and_agrees_with_the_speaker(judges):
    listening = Judges(judges.recognizer, judges.mos, judges.speaker, Rater())
    row = judged(listening, 1, text="say twice", faults=("noise", "repeat"))
    assert (row["faults"], row["faults_judged"]) == (["noise", "repeat"], True)
    assert judged(listening, 2)["faults"] == []


def test_only_what_lasts_too_long_is_a_runaway(judges):
    long = judge_clip(Item("speech", "ann", "1", "word", lambda: None), clip_of(50), judges, {})
    cut = judged(judges, 2, status="cut")
    assert (long["faults"], long["ran_away"]) == (["runaway"], True)
    assert (cut["faults"], cut["ran_away"]) == ([], True)


def test_fault_rates_are_wilsons_and_tell_only_what_was_listened_for(judges):
    unheard = [judged(judges, n) for n in range(20)]
    assert list(fault_rates(unheard)) == ["runaway"]
    assert fault_rates(unheard)["runaway"]["num"] == 0 < fault_rates(unheard)["runaway"]["high"]
    listening = Judges(judges.recognizer, judges.mos, judges.speaker, Rater())
    heard = [judged(listening, n, text="twice" if n < 5 else "once") for n in range(20)]
    rates = fault_rates(heard)
    assert rates["repeat"]["num"] == 5 and rates["repeat"]["value"] == 0.25
    assert {"skip", "truncation", "noise"} <= rates.keys() and rates["skip"]["low"] == 0 < rates["skip"]["high"]


def test_long_texts_are_not_listened_to_and_do_not_count(judges):
    listening = Judges(judges.recognizer, judges.mos, judges.speaker, Rater())
    rows = [judged(listening, 1, text="twice"), judged(listening, 2, text="word " * 41 + "twice")]
    assert [row["faults_judged"] for row in rows] == [True, False]
    rates = fault_rates(rows)
    assert (rates["repeat"]["num"], rates["repeat"]["num_clips"], rates["runaway"]["num_clips"]) == (1, 1, 2)


def test_every_estimate_lies_in_its_interval_and_what_nobody_measured_is_missing(judges):
    rows = [judged(judges, n, text="word " * (2 + n % 5), pause_sec=0.1 * n, wall_sec=0.1) for n in range(12)]
    found = estimates(rows)
    assert {"wer", "cer", "mos", "rtf", "ran_away", *RATES, *PROSODY} <= found.keys()
    assert not {"similarity", "prompt_similarity", "first_audio_sec"} & found.keys()
    for name, estimate in found.items():
        assert estimate["low"] <= estimate["value"] <= estimate["high"], name
    pauses = [pause for row in rows for pause in row["pauses_sec"]]
    assert found["pause_sec"]["value"] == pytest.approx(np.mean(pauses))
    assert found["pauses_per_sec"]["value"] == pytest.approx(len(pauses) / sum(row["spoken_sec"] for row in rows))
    assert values_of(BY_NAME["pause_sec"], rows) == pauses
    assert found["wer_per_item"]["value"] == pytest.approx(np.mean([r["word_errors"] / r["num_words"] for r in rows]))


def test_no_error_in_few_clips_proves_little(judges):
    few = estimates([judged(judges, n) for n in range(5)])
    many = estimates([judged(judges, n) for n in range(50)])
    # If as many clips as Wilson allows, 43 % of five, had one error in their three words.
    assert few["wer"] == pytest.approx({"value": 0, "low": 0, "high": 0.4345 / 3}, abs=1e-3)
    assert 0 < many["wer"]["high"] < 0.2 * few["wer"]["high"]
    assert 0 < many["pauses_per_sec"]["high"] < few["pauses_per_sec"]["high"]
    assert few["letters_per_sec"]["low"] == pytest.approx(few["letters_per_sec"]["high"])  # counts no events


def test_the_human_is_what_melody_and_pauses_are_compared_with(judges):
    human = [judged(judges, n, "recordings", pitch=150 + n, pause_sec=0.3) for n in range(6)]
    ours = [judged(judges, n, pitch=180 + n, pause_sec=0.5) for n in range(6)]
    beside = against(ours, human)
    assert beside["pitch_hz"]["difference"] == pytest.approx(30, abs=2)
    assert beside["pitch_hz"]["distance"] == pytest.approx(30, abs=2)
    assert beside["pitch_hz"]["low"] > 20
    assert beside["pause_sec"]["difference"] == pytest.approx(0.2, abs=0.02)
    assert against(human, human)["pitch_hz"]["distance"] == 0
    first, second = summarize([*human, *ours])
    assert first["against_recordings"] is None
    assert second["against_recordings"] == beside


def test_the_page_tells_all_of_it(judges, tmp_path):
    listening = Judges(judges.recognizer, judges.mos, judges.speaker, Rater())
    human = [judged(listening, n, "recordings", pitch=150) for n in range(3)]
    ours = [judged(listening, n, text="twice", pitch=180, num_retries=n) for n in range(3)]
    names = {"recognizer": "ears", "mos": "taste", "speaker": "face"}
    write_report(tmp_path, [*human, *ours], {"judges": names})
    text = (tmp_path / "report.md").read_text()
    assert "predicted (taste)" in text and "recognizer ears" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| speech | ann | 180 [")]
    assert "(+30, D 30)" in line
    (line,) = [line for line in text.splitlines() if line.startswith("| speech | ann | 0/3: 0.0 % [")]
    assert "3/3: 100.0 % [43.9, 100.0]" in line and line.endswith("| 3 |")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)
