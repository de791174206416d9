"""Written to spoken form: what people type, what cannot be said; nothing raises, hangs or changes twice."""

import random
import re
import subprocess
import sys
import time

import pytest

from voicegraft.text.english.normalize import Normalizer

SAYABLE = re.compile(r"[A-Za-z' .,?!;:-]*")

CASES = {
    # numbers, money, dates, times
    "It costs $5.20.": "It costs five dollars twenty cents.",
    "1,234,567.89": ("one million two hundred thirty four thousand five hundred and sixty seven point eight nine"),
    "$1.5M": "one point five million dollars",
    "$100K": "one hundred thousand dollars",
    "13000 people": "thirteen thousand people",
    "50%": "fifty percent",
    "-40 degrees": "minus forty degrees",
    "Jan. 5th, 1999": "January fifth, nineteen ninety nine",
    "25 july 2012": "the twenty fifth of july twenty twelve",
    "on 12/25": "on December twenty fifth",
    "In the 2010s and the '90s": "In the twenty tens and the nineties",
    "5:30pm": "five thirty PM",
    "We meet 3-4 p.m. tomorrow.": "We meet three to four PM tomorrow.",
    "He left at 6 p.m.": "He left at six PM.",
    "6 p.m.": "six PM",
    "10am–5pm": "ten AM to five PM",
    "1½ cups and ¼ tsp": "one and a half cups and one quarter teaspoon",
    # telephone, addresses, identifiers
    "Call 555-123-4567 at 5:30pm on 3/4/2024": (
        "Call five five five, one two three, four five six seven at five thirty PM on March fourth twenty twenty four"
    ),
    "555-1234": "five five five, one two three four",
    "+44 20 7946 0958": "plus four four, two zero, seven nine four six, zero nine five eight",
    "Dr. Smith lives at 221B Baker St.": "Doctor Smith lives at two hundred twenty one B Baker Street.",
    "Apt. 4B, 12 Oak Ave.": "Apartment four B, twelve Oak Avenue.",
    "Main St. is closed.": "Main Street is closed.",
    "St. Louis": "Saint Louis",
    "No. 7": "Number seven",
    "version 2.0.1": "version two point zero point one",
    "192.168.0.1": "one nine two dot one six eight dot zero dot one",
    # units and sums
    "It's 72°F": "It's seventy two degrees Fahrenheit",
    "5 km in 20 min, 5GB": "five kilometers in twenty minutes, five gigabytes",
    "1 m": "one meter",
    "3 lbs. 4 oz. of it": "three pounds four ounces of it",
    "5'11\" tall": "five foot eleven tall",
    "5 m²": "five square meters",
    "x² = 4": "X squared equals four",
    "2x4": "two by four",
    "pp. 12–15": "pages twelve to fifteen",
    "a score of 3-2": "a score of three to two",
    # names and abbreviations
    "Henry VIII": "Henry the eighth",
    "World War II": "World War two",
    "CHAPTER IV": "Chapter four",
    "the article I spoke of": "the article I spoke of",
    "Mr. and Mrs. Jones vs. the U.S. Army": "Mister and Missus Jones versus the US Army",
    "J. R. R. Tolkien": "J R R Tolkien",
    "e.g. apples, i.e. fruit, etc.": "for example apples, that is fruit, etcetera.",
    "AT&T and R&D": "AT and T and R and D",
    "C++ and C#.": "C plus plus and C sharp.",
    "#1 fan": "number one fan",
    # addresses on the net
    "www.example.com/page?id=3": "WWW dot example dot com slash page question mark ID equals three",
    "https://github.com/user, please": "github dot com slash user, please",
    "jane.doe@mail.com": "jane dot doe at mail dot com",
    "README.txt": "Readme dot TXT",
    # typography and markup
    "“Smart” ‘quotes’ — and… more": "Smart quotes, and... more",
    "**Bold**, *slanted*, [link](https://a.com) &amp; <b>tag</b>": "Bold, slanted, link and tag",
    "A Heading\n\n- first\n- second": "A Heading. first. second",
    "It is\nwrapped.": "It is wrapped.",
    "'It's 5,' she said.": "It's five, she said.",
    "don't, o'clock, rock 'n roll": "don't, o'clock, rock 'n roll",
    "crème brûlée": "creme brulee",
    "α and β": "alpha and beta",
}

CHARACTERS = "0123456789$%&/.,:-+ abAB'\"()#@é😀你\n\u200b\x00\ud800*_<>[]{}|\\^~`=!?;°€½²"


@pytest.fixture(scope="module")
def normalizer() -> Normalizer:
    return Normalizer()


@pytest.mark.parametrize("written", CASES)
def test_says_what_people_type(normalizer: Normalizer, written: str) -> None:
    assert normalizer.normalize(written) == CASES[written]


def test_spoken_text_stays_as_it_is(normalizer: Normalizer) -> None:
    for spoken in [*CASES.values(), "Well-known: yes, no; maybe! Really? I'm sure."]:
        assert normalizer.normalize(spoken) == spoken


def test_any_text_becomes_sayable_and_does_not_change_again(normalizer: Normalizer) -> None:
    for seed in range(60):
        rng = random.Random(seed)
        spoken = normalizer.normalize(" ".join(rng.choices(list(CASES), k=rng.randrange(1, 5))))
        assert SAYABLE.fullmatch(spoken)
        assert normalizer.normalize(spoken) == spoken


def test_any_characters_become_sayable(normalizer: Normalizer) -> None:
    for seed in range(150):
        rng = random.Random(seed)
        text = "".join(rng.choices(CHARACTERS, k=rng.randrange(60)))
        assert SAYABLE.fullmatch(normalizer.normalize(text)), text


def test_reports_what_cannot_be_said(normalizer: Normalizer) -> None:
    result = normalizer.analyse("I 😀\ufe0f love\u200b 你好, you 😀\ufe0f know.")
    assert result.text == "I love, you know."
    assert result.skipped == ("😀\ufe0f", "你好")


@pytest.mark.parametrize("text", ["", "  \n ", "😀😀", "你好", "!?.", "\u200b\x00", "''\"\"()"])
def test_nothing_sayable_is_empty(normalizer: Normalizer, text: str) -> None:
    assert normalizer.normalize(text) == ""


@pytest.mark.parametrize(
    "piece", ["1", "1-", "1,", "1.", "1:", "1/", "$", "A.", "a@", "(", "'", "<a", "IV", "3/4/2024 "]
)
def test_endless_input_takes_time_in_proportion(normalizer: Normalizer, piece: str) -> None:
    normalizer.normalize(piece * 100)
    begin = time.process_time()
    normalizer.normalize(piece * 1000)
    assert time.process_time() - begin < 20


def test_reading_needs_no_heavy_package() -> None:
    program = """
import sys
from voicegraft.text.english.normalize import Normalizer
normalizer = Normalizer()
plain = normalizer.normalize("Dr. Smith & Mrs. Jones, of the U.S., met.")
assert plain == "Doctor Smith and Missus Jones, of the US, met.", plain
assert normalizer.normalize("7") == "seven"
heavy = {"numpy", "torch", "transformers"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
