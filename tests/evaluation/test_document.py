import base64
import json
import re

import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.reports import document
from voicegraft.evaluation.reports.document import Document, Facts, Section, Table, draw, interval, write_document

EVIL = "<script>alert(1)</script> {{ 7 * 7 }} | `code`"


def test_a_document_is_written_as_markdown_json_and_a_page_of_its_own(tmp_path):
    pytest.importorskip("matplotlib")
    figure = draw("line", "A line", lambda canvas: canvas.subplots().plot([1, 2]), 2)
    parts = ["Text.", Table(("a", "b"), [("1", EVIL)]), Table(("a",), [], "Nothing."), Facts({"x": [1, 2], "y": None})]
    report = Document("Title", [Section("", parts), Section("Figures", [figure, EVIL])])
    text = write_document(tmp_path, "report", report, {"data": EVIL})
    assert (tmp_path / "report.md").read_text() == text
    assert json.loads((tmp_path / "report.json").read_text()) == {"data": EVIL}
    assert "| 1 | <script>alert(1)</script> {{ 7 * 7 }} \\| `code` |" in text
    assert "Nothing." in text and "- x: 1, 2" in text and "- y" not in text and "![A line](line.svg)" in text
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page and "49" not in re.sub('base64,[^"]*', "", page) and "<code>code</code>" in page
    (source,) = re.findall(r'src="([^"]*)"', page)
    assert base64.b64decode(source.partition("base64,")[2]).decode() == figure.svg
    assert (tmp_path / "line.svg").read_text() == figure.svg
    assert (
        "default-src 'none'" in page
        and "prefers-color-scheme: dark" in page
        and "http" not in page.replace("http-equiv", "")
    )


def test_figures_are_the_same_every_time_and_need_matplotlib(monkeypatch):
    pytest.importorskip("matplotlib")

    def drawn():
        return draw("line", "A line", lambda canvas: canvas.subplots().plot([1, 2]), 2).svg

    assert drawn() == drawn()
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(VoicegraftError, match=r"matplotlib: pip install voicegraft\[evaluate\]"):
        drawn()


def test_estimates_are_told_with_what_is_known_of_them():
    assert interval({"value": 0.5, "low": 0.25, "high": 1}, 2) == "0.50 [0.25, 1.00]"
    assert interval({"value": 0.5}, 1, "+") == "+0.5"
    assert interval(None, 2) == interval({"value": None}, 2) == "-"
    assert document.fact({"a": 1, "b": None, "c": (1, 2)}) == "a 1, c 1, 2"
