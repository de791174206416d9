import base64
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from tests.speech_report import RATE, make_clip, make_report, make_row
from voicegraft.evaluation.reports.speech_page import write_page

pytest.importorskip("matplotlib")
pytest.importorskip("jiwer")
from PIL import Image

VOID = {"meta", "input", "br", "image", "line", "path", "use", "rect", "circle", "link", "img"}


class Page(HTMLParser):
    """What the page shows: tags with their attributes, text by the card that it stands in."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cards, self.shown, self._open = [], [], [], []
        self.feed(text)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "article":
            self.cards.append({"attributes": dict(attributes), "text": [], "audio": [], "images": [], "marked": []})
        if self.cards and "article" in [*self._open, tag]:
            card = self.cards[-1]
            if tag == "audio":
                card["audio"].append(dict(attributes)["src"])
            if tag == "image":
                card["images"].append(dict(attributes)["href"])
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        if {"script", "style"} & set(self._open):
            return
        self.shown.append(data)
        if "article" in self._open:
            self.cards[-1]["text"].append(data)
            if self._open[-1] in ("del", "ins"):
                self.cards[-1]["marked"].append((self._open[-1], data))


def write(folder, report, **options):
    rows = write_page(folder, report, options.pop("audio", make_clip), **options)
    text = (folder / "report.html").read_text(encoding="utf-8")
    return Page(text), text, rows


def decode(uri, kind):
    head, _, data = uri.partition(",")
    assert head == f"data:{kind};base64"
    return io.BytesIO(base64.b64decode(data, validate=True))


def test_every_worst_item_can_be_heard_and_seen(bare, tmp_path):
    report = make_report()
    page, _, rows = write(tmp_path, report, num_worst=3)
    spoken = [card for card in page.cards if card["attributes"]["data-stage"] == "speech"]
    assert len(page.cards) == len(rows) and len(spoken) >= 3
    for card in page.cards:
        again = card["attributes"]["data-stage"] == "codec re-synthesis"
        assert len(card["audio"]) == len(card["images"]) == 1 + again  # beside the recording of the same id
        for sound, picture in zip(card["audio"], card["images"], strict=True):
            samples, rate = soundfile.read(decode(sound, "audio/flac"))
            assert rate == RATE and np.abs(samples).max() > 0.1
            image = Image.open(decode(picture, "image/png"))
            image.load()
            assert image.height == 80 and image.width == len(samples) * 100 // RATE


def test_the_lists_hold_the_worst_first_and_every_fault(bare, tmp_path):
    rows = [make_row(n, heard=" ".join(["word"] * (4 - n % 4)), mos=1 + n / 10) for n in range(12)]
    for n in (1, 5, 8):
        rows[n]["faults"] = ["repeat"]
    rows[9]["status"] = "budget"
    page, _, _ = write(tmp_path, make_report(rows), num_worst=2)

    def ids(name):
        listed = [card["attributes"] for card in page.cards if f"data-{name}" in card["attributes"]]
        return [one["id"] for one in sorted(listed, key=lambda one: int(one[f"data-{name}"]))]

    assert ids("wer") == ["item-3", "item-7"]  # three of four words missing
    assert ids("mos") == ["item-0", "item-1"]
    assert sorted(ids("faults")) == ["item-1", "item-5", "item-8", "item-9"]
    assert ids("typical") == ["item-4", "item-5", "item-6"]
    assert any("budget" in card["text"] for card in page.cards if card["attributes"]["id"] == "item-9")


def test_differing_words_are_marked_by_more_than_colour(bare, tmp_path):
    row = make_row(0, text="one two three four five", heard="one too four five six")
    page, _, _ = write(tmp_path, make_report([row]))
    assert page.cards[0]["marked"] == [("del", "two"), ("ins", "too"), ("del", "three"), ("ins", "+ six")]


def test_texts_cannot_become_markup(tmp_path):
    evil = "<script>alert('x')</script> \"quoted\" & {{items}}"
    row = make_row(0, text=evil, heard=evil + " more")
    row |= {"id": evil, "voice": evil, "status": evil, "faults": [evil], "reference": evil, "stage": "speech"}
    report = make_report([row, {**row, "stage": evil}])
    report["about"] = {evil: evil, "pack": evil, "prompts": evil, "date": evil}
    report["environment"] = {evil: {evil: [evil]}}
    page, text, _ = write(tmp_path, report)
    assert text.count("<script") == 1 and "<script>alert" not in text
    scripts = [tag for tag, _ in page.tags if tag == "script"]
    assert len(scripts) == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "".join(page.shown).count("alert('x')") > 10


def test_the_page_needs_nothing_besides_itself(tmp_path):
    page, text, _ = write(tmp_path, make_report())
    assert "http:" not in text and "https:" not in text and "//www" not in text
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object")
        for name in ("src", "href", "xlink:href"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes)
    policy = next(
        a["content"] for tag, a in page.tags if tag == "meta" and "content" in a and "default-src" in a["content"]
    )
    assert policy.startswith("default-src 'none'")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    named = [one for one in ids if not one.startswith(("m", "p", "C", "D"))]  # matplotlib's markers are shared
    assert len(named) == len(set(named))
    targets = [a["href"][1:] for tag, a in page.tags if tag == "a"]
    assert targets and set(targets) <= set(ids)


def test_clips_are_left_out_before_the_page_grows_too_large(bare, tmp_path):
    report = make_report()
    whole, text, rows = write(tmp_path, report)
    limit = len(text.encode()) * 2 // 3
    page, text, fewer = write(tmp_path, report, max_bytes=limit)
    assert len(text.encode()) <= limit
    assert 0 < len(fewer) < len(rows) and len(page.cards) == len(whole.cards)
    assert f"{len(rows) - len(fewer)} more were left out" in "".join(page.shown)
    assert fewer[0] == rows[0]


def test_a_clip_that_ran_away_is_cut(bare, tmp_path):
    clip = make_clip({"id": "a"})
    clip = type(clip)(np.tile(clip.samples, 200), clip.sample_rate)
    page, _, _ = write(tmp_path, make_report([make_row(0)]), audio=lambda row: clip)
    assert soundfile.info(decode(page.cards[0]["audio"][0], "audio/flac")).duration == 30
    assert "the first 30 s" in "".join(page.shown)


def test_items_without_sound_say_so(bare, tmp_path):
    page, _, rows = write(tmp_path, make_report(), audio=lambda row: None)
    assert rows == [] and page.cards
    assert all(not card["audio"] and "No sound" in "".join(card["text"]) for card in page.cards)


@pytest.mark.parametrize("kept", [(), ("rows",), ("summary",), ("about", "environment")])
def test_sections_may_be_missing(kept, tmp_path):
    report = {name: part for name, part in make_report().items() if name in kept}
    page, _, _ = write(tmp_path, report)
    assert "Speech evaluation" in "".join(page.shown)


def test_any_key_of_rows_and_summaries_may_be_missing(tmp_path):
    """Each row lacks another key; one has nothing but None, one has nothing at all."""
    report = make_report()
    row, one = report["rows"][-1], report["summary"][-1]
    rows = [{key: row[key] for key in row if key != name} for name in row]
    summary = [{key: one[key] for key in one if key != name} for name in one]
    page, _, _ = write(
        tmp_path,
        {"rows": [*rows, dict.fromkeys(row), {}], "summary": [*summary, dict.fromkeys(one), {}]},
        audio=lambda row: None,
    )
    body = [attributes for tag, attributes in page.tags if tag == "tr" and "data-stage" in attributes]
    assert len(body) == len(rows) + 2


def test_numbers_that_are_none_are_not_shown(tmp_path):
    rows = [make_row(n) for n in range(3)]
    rows[0]["mos"], rows[1]["wall_sec"] = {"ovrl": float("nan")}, float("inf")
    page, _, _ = write(tmp_path, json.loads(json.dumps(make_report(rows))))
    assert not {"nan", "inf"} & {word.strip() for word in page.shown}
