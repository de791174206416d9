"""The text evaluation on cases of our own: one right, one right but for capitals, one wrong."""

import json
from pathlib import Path

import pytest

from tools.evaluate_text import evaluate_text
from voicegraft.core.errors import VoicegraftError


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    folder = tmp_path / "cases"
    folder.mkdir()
    (folder / "test_cases_money.txt").write_text("$5~five dollars\n$7~Seven dollars.\nno case\n~\n", encoding="utf-8")
    (folder / "test_cases_word.txt").write_text("hello~goodbye\n", encoding="utf-8")
    (folder / "README.md").write_text("a~b\n", encoding="utf-8")
    return folder


def test_counts_by_category_and_prints_a_table(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shares = evaluate_text(cases, tmp_path / "out" / "report.json")
    money, everything = shares["money"], shares["all"]
    assert (money.num_cases, money.num_passed, money.num_exact) == (2, 2, 1)
    assert shares["required"] == money
    assert (everything.num_cases, everything.num_passed) == (3, 2)
    assert "| money | 2 | 100.0% | 50.0% |" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["shares"]["all"]["passed"] == pytest.approx(2 / 3)
    assert [(case["written"], case["spoken"]) for case in report["failures"]] == [("hello", "hello")]


def test_a_folder_without_cases_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match="test_cases_CATEGORY"):
        evaluate_text(tmp_path)


def test_a_report_that_cannot_be_written_is_a_clear_error(cases: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VoicegraftError, match="cannot write"):
        evaluate_text(cases, tmp_path / "file" / "report.json")
