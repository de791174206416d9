import json

import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.metrics.significance import holm
from voicegraft.evaluation.reports.comparison import compare, main, read_report, write_comparison

stats = pytest.importorskip("scipy.stats")


def row_of(num, errors=0, **facts):
    return {
        "stage": "speech", "voice": "ann", "id": f"{num:04d}", "text": f"text {num}", "reference": "word " * 10,
        "word_errors": errors, "num_words": 10, "char_errors": 4 * errors, "num_chars": 50,
        "mos": {"ovrl": 3.0 + 0.01 * num}, "similarity": {"ann": 0.8, "bob": 0.5}, "prompt_similarity": None,
        "duration_sec": 3.0, "spoken_sec": 2.8 + 0.01 * num, "wall_sec": 0.6, "first_audio_sec": 0.1,
        "pitch": {"median_hz": 200.0, "iqr_semitones": 4.0, "voiced_share": 0.6}, "pauses_sec": [],
        "status": "ok", "faults": [], "faults_judged": True, "num_retries": 0, "ran_away": False, **facts,
    }  # fmt: skip


def report_of(rows, **about):
    judges = {"recognizer": "ears", "mos": "taste", "speaker": "face"}
    return {"about": {"judges": judges, **about}, "environment": {"cpu": "one"}, "summary": [], "rows": rows}


def test_differences_are_b_minus_a_with_scipys_tests():
    a = [row_of(n, errors=2 + n % 3) for n in range(30)]
    b = [row_of(n, errors=n % 3, mos={"ovrl": 3.1 + 0.012 * n}, faults=["repeat"] * (n < 6)) for n in range(30)]
    (group,) = compare(report_of(a), report_of(b))["groups"]
    measures = group["measures"]
    assert group["num_items"] == 30
    assert measures["wer"]["difference"] == pytest.approx({"value": -0.2, "low": -0.2, "high": -0.2})
    assert measures["wer"]["p"] == pytest.approx(1e-4)
    scores = [[row["mos"]["ovrl"] for row in rows] for rows in (a, b)]
    assert measures["mos"]["p"] == pytest.approx(stats.wilcoxon(*scores).pvalue)
    assert measures["similarity"]["p"] == 1 and measures["similarity"]["a"] == pytest.approx(0.8)
    assert measures["repeat"]["p"] == pytest.approx(stats.binomtest(0, 6).pvalue)
    assert (measures["repeat"]["a"], measures["repeat"]["b"], measures["repeat"]["num_only_b"]) == (0, 0.2, 6)
    assert "prompt_similarity" not in measures and "skip" not in measures
    corrected = holm({name: measure["p"] for name, measure in measures.items()})
    assert {name: measure["p_holm"] for name, measure in measures.items()} == pytest.approx(corrected)


def test_only_shared_items_are_compared_and_the_rest_is_counted():
    a = [row_of(n) for n in range(5)]
    b = [row_of(n, text="changed" if n == 3 else f"text {n}") for n in range(2, 9)]
    found = compare(report_of(a), report_of(b))
    assert (found["groups"][0]["num_items"], found["num_only_a"], found["num_only_b"]) == (2, 3, 5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stage": "recordings"}, "no stage is in both; A has 'speech', B has 'recordings'"),
        ({"voice": "eve"}, "no voice is in both.*'ann'.*'eve'"),
        ({"id": "x"}, "no id is in both"),
        ({"text": "other"}, "no text is in both.*'other'"),
    ],
)
def test_reports_without_a_shared_item_say_why(change, reason):
    with pytest.raises(VoicegraftError, match=f"share no item: {reason}"):
        compare(report_of([row_of(1), row_of(2)]), report_of([row_of(1, **change)]))


def test_reports_of_other_judges_are_refused():
    ours = report_of([row_of(1)])
    other = {**ours["about"]["judges"], "recognizer": "whisper"}
    with pytest.raises(VoicegraftError, match="by recognizer ears and by recognizer whisper"):
        compare(ours, report_of([row_of(1)], judges=other))
    listening = {**ours["about"]["judges"], "faults": "sphinx"}
    assert compare(ours, report_of([row_of(1)], judges=listening))["groups"]


def test_what_one_side_lacks_is_left_out():
    a = [row_of(n, mos={}, wall_sec=None, similarity={}) for n in range(4)]
    b = [row_of(n, faults_judged=False, faults=["skip"]) for n in range(4)]
    (group,) = compare(report_of(a), report_of(b))["groups"]
    assert set(group["measures"]) == {"wer", "cer", "letters_per_sec", "ran_away"}


def test_faults_are_compared_where_somebody_listened_on_both_sides():
    a = [row_of(n, faults=["skip"], faults_judged=n < 6) for n in range(8)]
    b = [row_of(n, faults_judged=n < 7) for n in range(8)]
    skip = compare(report_of(a), report_of(b))["groups"][0]["measures"]["skip"]
    assert (skip["num_items"], skip["a"], skip["b"], skip["num_only_a"]) == (6, 1, 0, 6)


def test_recordings_are_no_part_of_a_comparison_of_speech():
    both = [row_of(1), row_of(2, stage="recordings")]
    found = compare(report_of(both), report_of(both))
    assert [group["stage"] for group in found["groups"]] == ["speech"]
    assert found["num_only_a"] == found["num_only_b"] == 0
    assert compare(report_of(both[1:]), report_of(both[1:]))["groups"][0]["stage"] == "recordings"


def test_speed_is_compared_on_one_machine_only():
    other = {**report_of([row_of(1)]), "environment": {"cpu": "two"}}
    assert "rtf" in compare(report_of([row_of(1)]), report_of([row_of(1)]))["groups"][0]["measures"]
    assert "rtf" not in compare(report_of([row_of(1)]), other)["groups"][0]["measures"]


def test_the_page_gives_verdicts_only_where_the_corrected_test_does(tmp_path):
    a = [row_of(n, errors=3) for n in range(20)]
    b = [row_of(n, errors=1, ran_away=n < 2) for n in range(20)]
    found = compare(report_of(a, pack="old"), report_of(b, pack="new"))
    text = write_comparison(tmp_path, found)
    assert json.loads((tmp_path / "comparison.json").read_text()) == found
    assert (tmp_path / "comparison.md").read_text() == text
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert "-0.200 [-0.200, -0.200]" in lines["WER"] and "B is better" in lines["WER"]
    assert "is better" not in lines["ran away"] and "only A 0, only B 2" in lines["ran away"]
    assert "- A: old" in text and "- B: new" in text


def test_the_command_reads_files_and_folders(tmp_path, capsys):
    for name, errors in (("a", 3), ("b", 1)):
        (tmp_path / name).mkdir()
        rows = [row_of(n, errors) for n in range(8)]
        (tmp_path / name / "report.json").write_text(json.dumps(report_of(rows)))
    main([str(tmp_path / "a"), str(tmp_path / "b" / "report.json"), "--out", str(tmp_path / "out")])
    assert "speech, ann: 8 items" in capsys.readouterr().out
    assert (tmp_path / "out" / "comparison.json").exists()


def test_what_is_no_report_is_refused(tmp_path):
    (tmp_path / "old.json").write_text(json.dumps(report_of([{"stage": "speech"}])))
    with pytest.raises(VoicegraftError, match="earlier version"):
        read_report(tmp_path / "old.json")
    (tmp_path / "foreign.json").write_text("[1]")
    with pytest.raises(VoicegraftError, match="cannot read"):
        read_report(tmp_path / "foreign.json")
    with pytest.raises(VoicegraftError, match="cannot read"):
        read_report(tmp_path)
