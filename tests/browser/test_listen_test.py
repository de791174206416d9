"""A whole listening test by simulated listeners, who click through the page as people do."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.listening import write_voices
from voicegraft import cli
from voicegraft_listening.page import ANCHOR, RECORDINGS, SCALES

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SYSTEMS = ("splendid", "middling", "horrible")
CONDITIONS = (*SYSTEMS, RECORDINGS, ANCHOR)
# listener -> what they think of the conditions: human likeness, audio quality
OPINIONS = {
    "ann": ((5, 4), (3, 3), (2, 1), (5, 5), (1, 1)),
    "bob": ((4, 4), (3, 2), (2, 2), (5, 4), (1, 2)),
    "cat": ((4, 5), (4, 3), (1, 2), (5, 5), (1, 1)),
    "dan": ((3, 4), (3, 3), (2, 3), (4, 5), (2, 1)),
}
RANDOM = "eve"


class Visitor:
    """Somebody in front of the page."""

    def __init__(self, driver: Any, page: Path) -> None:
        self.driver = driver
        driver.get(page.resolve().as_uri())

    def all(self, css: str) -> list[Any]:
        return self.driver.find_elements("css selector", css)

    def one(self, css: str) -> Any:
        (found,) = self.all(css)
        return found

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: Callable[[], Any], what: str) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, f"waited in vain: {what}"
            time.sleep(0.01)

    def begin(self, name: str) -> None:
        self.one("#listener").send_keys(name)
        self.one("input[value=headphones]").click()
        self.one("#welcome button").click()
        assert not self.one("#next").is_enabled()
        self.play()
        self.one("#next").click()

    def clips(self) -> list[str]:
        return [button.get_attribute("data-clip") for button in self.all("#players button")]

    def play(self) -> None:
        for button in self.all("#players button"):
            button.click()
            self.until(lambda b=button: b.text.startswith("▶"), "the end of a clip")

    def count(self) -> str:
        return self.one("#count").text

    def done(self) -> bool:
        return self.one("#done").is_displayed()

    def save(self, folder: Path, name: str) -> Path:
        path = folder / f"results-{name}.json"
        assert path.name in self.one("#done").text
        self.one("#save").click()
        self.until(path.exists, f"the download of {path.name}")
        assert self.one("#raw").get_attribute("value") == path.read_text()
        return path

    def next_listener(self) -> None:
        self.one("#again").click()
        self.driver.switch_to.alert.accept()
        assert self.one("#welcome").is_displayed()


class Rater:
    """Answers by what was said of the systems, or at random."""

    def __init__(self, visitor: Visitor, key: dict[str, Any], name: str) -> None:
        self.visitor = visitor
        self.clips = key["clips"]
        self.opinion = dict(zip(CONDITIONS, OPINIONS[name], strict=True)) if name in OPINIONS else None
        self.rng = random.Random(0)

    def answer(self) -> None:
        visitor = self.visitor
        heard = [self.clips[clip]["system"] for clip in visitor.clips()]
        if len(heard) == 1:
            scores = self.opinion[heard[0]] if self.opinion else (self.rng.randint(1, 5), self.rng.randint(1, 5))
            for scale, score in zip(SCALES, scores, strict=True):
                assert not visitor.one("#next").is_enabled()
                visitor.one(f'input[name={scale}][value="{score}"]').click()
        else:
            answer = self.rng.choice(("A", "B", "same"))
            if self.opinion:
                first, second = (sum(self.opinion[name]) for name in heard)
                answer = "A" if first > second else "B" if second > first else "same"
            visitor.one(f"input[name=answer][value={answer}]").click()

    def rate(self) -> None:
        self.visitor.play()
        self.answer()
        self.visitor.one("#next").click()


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """The page and the key: each listener rates each condition twice."""
    arguments = ["--recordings", str(write_voices(tmp_path, "narrator", 6, seconds=0.2))]
    for name in SYSTEMS:
        arguments += ["--system", f"{name}={write_voices(tmp_path, name, 6, seconds=0.2)}"]
    arguments += ["--parts", "mos", "ab", "--per-listener", "10", "--checks", "2", "--out", str(tmp_path / "test")]
    assert cli.main(["listen-test", "make", *arguments]) == 0
    return tmp_path / "test" / "page" / "index.html", json.loads((tmp_path / "test" / "key.json").read_text())


def test_opinions_come_back_through_the_page(
    made: tuple[Path, dict[str, Any]], open_browser: Callable[..., Any], tmp_path: Path
) -> None:
    page, key = made
    visitor = Visitor(open_browser(tmp_path), page)
    files = []
    for name in (*OPINIONS, RANDOM):
        visitor.begin(name)
        rater = Rater(visitor, key, name)
        if name == "ann":
            _cannot_be_skipped(visitor)
        while not visitor.done():
            if name == "bob" and visitor.count() == "8 of 26":
                _goes_on_after_a_reload(visitor)
            if name == "cat" and visitor.count() == "3 of 26":
                _answers_by_keyboard(visitor, rater)
            else:
                rater.rate()
        files.append(visitor.save(tmp_path, name))
        _is_in_good_order(json.loads(files[-1].read_text()), key)
        visitor.next_listener()
    loaded = visitor.js("return performance.getEntries().map(e => e.name).filter(n => n.includes(':'))")
    assert [name for name in loaded if not name.startswith(("blob:", "file:"))] == []
    assert [entry for entry in visitor.driver.get_log("browser") if entry["level"] == "SEVERE"] == []

    # Simulated listeners decide at once, and never change their minds.
    rules = ["--rule", "fast=off", "--rule", "repeats=1", "--rule", "anchor=2", "--rule", "reference=4"]
    out = tmp_path / "report"
    where = ["--key", str(page.parents[1] / "key.json"), "--out", str(out)]
    assert cli.main(["listen-test", "score", *where, *rules, *map(str, files)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert [rater["listener"] for rater in report["raters"] if rater["broken"]] == [RANDOM]
    assert report["rejected"] == []
    after = report["after_exclusion"]
    for row in after["scores"]:
        place = CONDITIONS.index(row["system"])
        assert row["num_ratings"] == 2 * len(OPINIONS)
        for number, scale in enumerate(SCALES):
            injected = sum(opinion[place][number] for opinion in OPINIONS.values()) / len(OPINIONS)
            assert row[scale]["value"] == pytest.approx(injected), (row["system"], scale)
    for row in after["preferences"]:  # everybody has the systems in this order
        assert row["wins"][0] >= 3 * len(OPINIONS) and row["wins"][1] == row["ties"] == 0
    assert report["all_raters"]["num_listeners"] == len(OPINIONS) + 1


def _cannot_be_skipped(visitor: Visitor) -> None:
    """Without the whole clip no answer is possible, by whatever means a listener has."""

    def locked() -> bool:
        inputs = visitor.js("return [...document.querySelectorAll('#scales input')].every(i => i.matches(':disabled'))")
        return inputs and not visitor.one("#next").is_enabled()

    clip = visitor.clips()
    assert len(clip) == 1 and locked()
    assert visitor.js("return document.querySelector('audio, [controls]')") is None  # no slider to its end
    visitor.js("document.querySelector('#trial').requestSubmit()")
    play_and_stop = "const b = document.querySelector('#players button'); b.click(); b.click();"
    visitor.js(play_and_stop)
    time.sleep(0.5)
    assert locked() and visitor.clips() == clip
    visitor.play()
    assert not visitor.one("#next").is_enabled()  # heard, but not answered
    assert all(choice.is_enabled() for choice in visitor.all("#scales input"))


def _goes_on_after_a_reload(visitor: Visitor) -> None:
    clips = visitor.clips()
    visitor.js("document.querySelector('#players button').click()")
    visitor.driver.refresh()
    assert (visitor.count(), visitor.clips()) == ("8 of 26", clips)
    assert not visitor.one("#next").is_enabled()  # the clip must be heard again


def _answers_by_keyboard(visitor: Visitor, rater: Rater) -> None:
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        for key in keys:
            visitor.driver.switch_to.active_element.send_keys(key)

    (clip,) = visitor.clips()
    opinion = rater.opinion[rater.clips[clip]["system"]] if rater.opinion else (0, 0)
    press(Keys.SPACE)
    visitor.until(lambda: visitor.one("#players button").text.startswith("▶"), "the end of a clip")
    for score in opinion:  # the list goes from 5 down to 1
        press(Keys.TAB, Keys.SPACE, *[Keys.ARROW_DOWN] * (5 - score))
    press(Keys.TAB)
    assert visitor.driver.switch_to.active_element.get_attribute("id") == "next"
    press(Keys.ENTER)
    assert visitor.count() == "4 of 26"


def _is_in_good_order(results: dict[str, Any], key: dict[str, Any]) -> None:
    clips, trials = key["clips"], results["trials"]
    assert [trial["part"] for trial in trials] == ["mos"] * 12 + ["ab"] * 14
    for part in ("mos", "ab"):
        sentences = [clips[trial["clips"][0]]["sentence"] for trial in trials if trial["part"] == part]
        assert all(one != other for one, other in pairwise(sentences))
    rated = {trial["clips"][0] for trial in trials if trial["part"] == "mos"}
    assert set(Counter(clips[clip]["system"] for clip in rated).values()) == {2}
    compared = [trial["clips"] for trial in trials if trial["part"] == "ab"]
    assert (
        sum(pair[::-1] in compared[:place] for place, pair in enumerate(compared)) == 2
    )  # repeated the other way round


def test_it_fits_on_a_phone(
    made: tuple[Path, dict[str, Any]], open_browser: Callable[..., Any], tmp_path: Path
) -> None:
    page, key = made
    visitor = Visitor(open_browser(tmp_path, 340, 700), page)

    def fits() -> bool:
        return visitor.js("return document.scrollingElement.scrollWidth <= innerWidth && innerWidth === 340")

    assert fits()
    visitor.begin("")
    rater = Rater(visitor, key, "ann")
    for _ in range(3):
        assert fits()
        targets = visitor.js("return [...document.querySelectorAll('.choice, button')].map(e => e.offsetHeight)")
        assert all(height == 0 or height >= 44 for height in targets)
        rater.rate()
    state = json.loads(visitor.js("return Object.values(localStorage)[0]"))
    assert state["listener"].startswith("listener-") and len(state["listener"]) == 15
