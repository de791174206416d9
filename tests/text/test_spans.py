"""From spoken words back to the written text."""

import random
import time
from itertools import pairwise

import pytest

from voicegraft.text.english.normalize import Normalizer
from voicegraft.text.english.spans import word_spans
from voicegraft.text.units import words_of

# written -> what each stretch of it says
CASES = {
    "It costs $5.20 today.": "It=It costs=costs $5.20=five,dollars,twenty,cents today=today",
    "Mr. Smith paid 405 and 3 dollars.": (
        "Mr=Mister Smith=Smith paid=paid 405=four,hundred,and,five and=and 3=three dollars=dollars"
    ),
    "Call 555-123-4567, please": "Call=Call 555-123-4567=five,five,five,one,two,three,four,five,six,seven please=please",
    "on 5 May 2012": "on=on 5=the,fifth,of May=May 2012=twenty,twelve",
    "V.I.P. guests of the U.S.": "V.I.P=VIP guests=guests of=of the=the U.S=US",
    "my_var getName x": "my_var=my,var getName=get,name x=X",
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


@pytest.fixture(scope="module")
def normalizer() -> Normalizer:
    return Normalizer()


@pytest.mark.parametrize("written", CASES)
def test_finds_what_each_word_says(normalizer: Normalizer, written: str) -> None:
    spoken = normalizer.normalize(written)
    found: list[str] = []
    last = None
    for word, (start, end) in zip(words_of(spoken), word_spans(written, spoken), strict=True):
        if (start, end) == last:
            found[-1] += f",{word.letters}"
        else:
            found.append(f"{written[start:end]}={word.letters}")
        last = (start, end)
    assert found == CASES[written].split()


def test_what_was_said_in_another_order_is_one_span(normalizer: Normalizer) -> None:
    written = "It took $5 million."
    spans = word_spans(written, normalizer.normalize(written))
    assert {written[start:end] for start, end in spans[2:]} == {"$5 million"}


def test_spans_cover_every_word_and_never_go_back(normalizer: Normalizer) -> None:
    pieces = [
        *CASES,
        "",
        "😀",
        "...",
        "$",
        "(x)",
        "***",
        "1/2",
        "https://a.com/b?c=1",
        "IT'S",
        "(see p. 5)",
        "éa\u0301",
    ]
    for seed in range(200):
        rng = random.Random(seed)
        written = " ".join(rng.choices(pieces, k=rng.randrange(5)))
        spoken = normalizer.normalize(written)
        spans = word_spans(written, spoken)
        assert len(spans) == len(words_of(spoken))
        assert all(0 <= start < end <= len(written) for start, end in spans), written
        assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(spans)), written


def test_plain_words_keep_their_places() -> None:
    for num_words in (1, 7, 1000):
        words = [random.Random(i).choice(["no", "yes", "that", "door", "it's"]) for i in range(num_words)]
        text = " ".join(words)
        assert [text[start:end] for start, end in word_spans(text, text)] == words


def test_unrelated_texts_still_have_spans() -> None:
    assert word_spans("", "some words") == [(0, 0), (0, 0)]
    assert word_spans("only this", "") == []
    assert len(word_spans("alpha beta", "one two three four")) == 4


def test_time_is_in_proportion() -> None:
    begin = time.process_time()
    assert len(word_spans("word 5 " * 1000, "word five " * 1000)) == 2000
    assert time.process_time() - begin < 20
