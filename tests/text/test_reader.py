"""From spoken words back to the written text, and nothing lost on the way."""

import random
import re
import time
from itertools import pairwise

import pytest

from tests.text.test_cases import FILES, read_cases
from voicegraft.text.english.characters import Skipped
from voicegraft.text.english.frontend import EnglishFrontend
from voicegraft.text.english.reader import read
from voicegraft.text.markup.annotations import Annotation
from voicegraft.text.units import words_of

# written -> what each stretch of it says
CASES = {
    "It costs $5.20 today.": "It=It costs=costs $5.20=five,dollars,twenty,cents today=today",
    "Mr. Smith paid 405 and 3 dollars.": (
        "Mr=Mister Smith=Smith paid=paid 405=four,hundred,and,five and=and 3=three dollars=dollars"
    ),
    "Call 555-123-4567, please": "Call=Call 555-123-4567=five,five,five,one,two,three,four,five,six,seven please=please",
    "on 5 May 2012": "on=on 5=the,fifth,of May=May 2012=twenty,twelve",
    "It took $5 million.": "It=It took=took $5 million=five,million,dollars",
    "V.I.P. guests of the U.S.": "V.I.P=VIP guests=guests of=of the=the U.S=US",
    "my_var getName x": "my=my var=var getName=get,name x=X",
    "PLEASE STOP": "PLEASE=Please STOP=stop",
    "a 20-year-old man": "a=a 20=twenty year=year old=old man=man",
    "“Yes” 😀 café…": "Yes=Yes café=cafe",
    "no no 2 no": "no=no no=no 2=two no=no",
    "A B C": "A=Ay B=B C=C",
    "AT&T & you": "AT&T=AT,and,T &=and you=you",
    "3 lbs. at 50%": "3=three lbs=pounds at=at 50%=fifty,percent",
    "jo@a.com wrote e.g. this": "jo@a.com=jo,at,a,dot,com wrote=wrote e.g=for,example this=this",
    "10:30-11:45 p.m.": "10:30-11:45=ten,thirty,to,eleven,forty,five p.m=PM",
    "well-known and/or": "well=well known=known and=and or=or",
    "World War II and WWII": "World=World War=War II=two and=and WWII=World,War,two",
}


@pytest.mark.parametrize("written", CASES)
def test_finds_what_each_word_says(written: str) -> None:
    reading = read(written, Skipped().add)
    found: list[str] = []
    last = None
    for word, (start, end) in zip(words_of(reading.text), reading.spans, strict=True):
        if (start, end) == last:
            found[-1] += f",{word.letters}"
        else:
            found.append(f"{written[start:end]}={word.letters}")
        last = (start, end)
    assert " ".join(found) == CASES[written]


def test_spans_cover_every_word_and_never_go_back() -> None:
    more = ["", "😀", "...", "$", "(x)", "***", "1/2", "https://a.com/b?c=1", "IT'S", "(see p. 5)", "éa\u0301"]
    pieces = [*CASES, *more]
    for seed in range(200):
        rng = random.Random(seed)
        written = " ".join(rng.choices(pieces, k=rng.randrange(5)))
        reading = read(written, Skipped().add)
        assert len(reading.spans) == len(words_of(reading.text))
        assert all(0 <= start < end <= len(written) for start, end in reading.spans), written
        assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(reading.spans)), written


def test_plain_words_keep_their_places() -> None:
    for num_words in (1, 7, 1000):
        words = [random.Random(i).choice(["no", "yes", "that", "door", "it's"]) for i in range(num_words)]
        text = " ".join(words)
        assert [text[start:end] for start, end in read(text, Skipped().add).spans] == words


WRITTEN = [row[0] for path in FILES for row in read_cases(path)]


def lost(written: str) -> list[str]:
    """Words, numbers and signs that are neither said nor reported."""
    skipped: list[str] = []
    reading = read(written, skipped.append)
    left_out = "".join(skipped)
    return [
        match.group()
        for match in re.finditer(r"[A-Za-z0-9]+|[+=%$£€&@°±×÷<>]|(?<!\S)-(?=[$£€]?\.?\d)", written)
        if match.group() not in left_out
        and not any(start < match.end() and end > match.start() for start, end in reading.spans)
    ]


def test_nothing_that_people_write_vanishes() -> None:
    for written in WRITTEN:
        assert lost(" ".join(written.replace("\x1b", "").split())) == [], written


def test_nothing_of_random_text_vanishes() -> None:
    characters = "0123456789$%&/.,:-+ abAB'\"()#@é😀IVXCm²½°€=<>x×kgs"
    for seed in range(400):
        rng = random.Random(seed)
        if seed % 2:
            written = "".join(rng.choices(characters, k=rng.randrange(60)))
        else:
            words = [word for text in rng.choices(WRITTEN, k=2) for word in text.split()]
            written = " ".join(rng.sample(words, len(words)))
        written = re.sub(r"([+=<>])\1+|\x1b", "", written)  # drawn lines and prompts
        assert lost(written) == [], written


@pytest.mark.parametrize(
    ("kind", "written", "said"),
    [
        ("sub=World Wide Web", "WWW", "World Wide Web"),
        ("characters", "a1B-", "Ay one B dash"),
        ("digits", "2024", "two zero two four"),
        ("cardinal", "1984", "one thousand nine hundred and eighty four"),
        ("ordinal", "3", "third"),
        ("fraction", "1+1/2", "one and a half"),
        ("date=dmy", "3/4/2024", "April third twenty twenty four"),
        ("date=ym", "2024-02", "February twenty twenty four"),
        ("telephone", "555 01", "five five five, zero one"),
        ("currency", "$5.20", "five dollars twenty cents"),
        ("unit", "5 km", "five kilometers"),
        ("expletive", "well", "well"),
    ],
)
def test_say_as_says_what_markup_asks_for(kind: str, written: str, said: str) -> None:
    text = f"So {written} it is."
    place = (3, 3 + len(written))
    reading = read(text, Skipped().add, [Annotation(*place, kind)])
    assert reading.text == f"So {said} it is."
    assert {reading.spans[0], *reading.spans[-2:]} == {
        (0, 2),
        *((text.rindex(w), text.rindex(w) + 2) for w in ("it", "is")),
    }
    assert all(place[0] <= start < end <= place[1] for start, end in reading.spans[1:-2])


@pytest.mark.parametrize("piece", ["(((", "1,1,1,", "a.a.a.", "$$$$", "1-", "5 ft ", "IV", "½"])
def test_time_is_in_proportion(piece: str) -> None:
    frontend = EnglishFrontend()

    def seconds(count: int) -> float:
        begin = time.process_time()
        for _ in frontend.sentences([piece * count]):
            pass
        return time.process_time() - begin

    seconds(10)
    assert seconds(6000 // len(piece)) < 12 * max(seconds(1000 // len(piece)), 0.02)
