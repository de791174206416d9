"""The page of `evaluate speech` in a real browser, opened from a file."""

import shutil

import pytest

from tests.speech_report import make_clip, make_report, make_row

pytest.importorskip("selenium")
pytest.importorskip("matplotlib")
pytest.importorskip("jiwer")
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from voicegraft.evaluation.reports.speech_page import write_page

pytestmark = pytest.mark.browser


@pytest.fixture
def browser():
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("needs Chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options=options, service=Service(driver))
    yield running
    complaints = running.get_log("browser")
    running.quit()
    assert not complaints


@pytest.fixture
def page(browser, tmp_path):
    report = make_report()
    report["rows"][-1] |= {"faults": ["repeat"], "text": "<b>bold</b> end"}
    write_page(tmp_path, report, make_clip)
    browser.set_window_size(1200, 900)
    browser.get((tmp_path / "report.html").as_uri())
    return browser


def all_shown(page, selector):
    return [one for one in page.find_elements(By.CSS_SELECTOR, selector) if one.is_displayed()]


def column(page, title):
    heads = page.find_elements(By.CSS_SELECTOR, "#items th")
    place = [head.text.split(" ")[0] for head in heads].index(title)
    heads[place].find_element(By.TAG_NAME, "button").click()
    rows = all_shown(page, "#items tbody tr")
    return [row.find_elements(By.TAG_NAME, "td")[place].text for row in rows]


def test_items_are_sorted_by_number_the_worst_first(page):
    def numbers(texts):
        return [float(text) for text in texts if text != "–"]

    first, second = column(page, "WER"), column(page, "WER")
    assert numbers(first) == sorted(numbers(first), reverse=True) != numbers(second) == sorted(numbers(second))
    opinions = column(page, "MOS")
    assert numbers(opinions) == sorted(numbers(opinions))
    timed = column(page, "RTF")
    assert "–" in timed and "–" not in timed[: -timed.count("–")]  # recordings were not made: last
    items = [text.removeprefix("▶ ") for text in column(page, "item")]
    assert items == sorted(items)


def test_items_are_found_by_words_and_stage(page):
    field = page.find_element(By.CSS_SELECTOR, "#items input")
    field.send_keys("REPEAT <b>bold")
    assert len(all_shown(page, "#items tbody tr")) == 1
    assert page.find_element(By.ID, "count").text == "1 of 16"
    field.clear()
    field.send_keys("word")
    Select(page.find_element(By.CSS_SELECTOR, "#items select")).select_by_value("recordings")
    assert page.find_element(By.ID, "count").text == "4 of 16"


def test_one_list_of_one_stage_shows_at_a_time(page):
    assert [card.get_attribute("id") for card in all_shown(page, ".card")] == ["item-15"]  # the fault
    page.find_element(By.CSS_SELECTOR, "input[value=mos]").find_element(By.XPATH, "..").click()
    cards = sorted(all_shown(page, ".card"), key=lambda card: card.location["y"])
    ranks = [int(card.get_attribute("data-mos")) for card in cards]
    assert ranks == list(range(8)) and {card.get_attribute("data-stage") for card in cards} == {"speech"}
    page.find_element(By.CSS_SELECTOR, "input[value^=codec]").find_element(By.XPATH, "..").click()
    assert {card.get_attribute("data-stage") for card in all_shown(page, ".card")} == {"codec re-synthesis"}


def test_a_long_list_shows_its_first_ten(browser, tmp_path):
    rows = [make_row(n, mos=5 - n / 100) for n in range(14)]
    write_page(tmp_path, make_report(rows), make_clip, num_worst=14)
    browser.get((tmp_path / "report.html").as_uri())
    assert len(all_shown(browser, ".card")) == 10
    more = browser.find_element(By.ID, "more")
    assert more.text == "Show all 14"
    browser.execute_script("arguments[0].click()", more)
    assert len(all_shown(browser, ".card")) == 14 and not more.is_displayed()


def test_a_link_from_the_table_opens_its_card(page):
    (row,) = [
        one for one in all_shown(page, "#items tbody tr") if one.find_elements(By.CSS_SELECTOR, "a[href$=item-4]")
    ]
    row.find_element(By.TAG_NAME, "a").click()
    WebDriverWait(page, 10).until(lambda _: page.find_element(By.ID, "item-4").is_displayed())
    assert page.find_element(By.ID, "item-4").get_attribute("data-stage") == "codec re-synthesis"


def test_a_click_into_a_spectrogram_plays_from_there(page):
    card = all_shown(page, ".card")[0]
    audio, picture = card.find_element(By.TAG_NAME, "audio"), card.find_element(By.CSS_SELECTOR, ".spectrogram image")
    WebDriverWait(page, 10).until(lambda _: audio.get_property("duration") == pytest.approx(0.5))
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", picture)
    picture.click()  # in its middle
    WebDriverWait(page, 10).until(lambda _: audio.get_property("currentTime") >= 0.24)
    head = card.find_element(By.CSS_SELECTOR, ".head")
    left = float(card.find_element(By.CSS_SELECTOR, ".spectrogram").get_attribute("data-left"))
    WebDriverWait(page, 10).until(lambda _: float(head.get_attribute("x1")) > left + 200)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(page, scheme):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    dark = page.execute_script("return getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
