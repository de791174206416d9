"""Odd text: capitals, letters, programs, look-alikes and noise. What is not said is reported, and no word is lost."""

import random
import re
import time
import unicodedata

import pytest

from voicegraft.text.english.capitals import SHORT_WORDS, is_word, looks_like_a_word
from voicegraft.text.english.characters import Skipped
from voicegraft.text.english.normalize import Normalizer

SAYABLE = re.compile(r"[A-Za-z' .,?!;:-]*")
WORDS = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")

CASES = {
    # capitals that shout, name or spell
    "PLEASE CLOSE THE DOOR": "Please close the door",
    "I said STOP now.": "I said stop now.",
    "BREAKING: markets fall": "Breaking: markets fall",
    "THIS IS A TEST. DON'T PANIC!": "This is a test. Don't panic!",
    "TELL US WHERE IT IS, O'BRIEN": "Tell us where it is, o'brien",
    "MEET MR. LEE AT 5 PM ON MAY 5TH": "Meet Mister Lee at five PM on May fifth",
    "HENRY VIII AND WORLD WAR II": "Henry the eighth and world War two",
    "NASA, UNICEF AND THE FBI": "Nasa, unicef and the FBI",
    "The US and it told us: IT is HTML, HTTPS and a PM": "The US and it told us: IT is HTML, HTTPS and a PM",
    "I AM here. WHO is it? The WHO said so.": "I am here. Who is it? The WHO said so.",
    "AT&T, not AT HOME": "AT and T, not at home",
    "NOOOO, that is sooo goood!!!": "No, that is so good!",
    "STRENGTH and RHYTHM, XQZWT": "Strength and rhythm, XQZWT",
    "I live in Portland, OR.": "I live in Portland, OR.",
    # letters
    "b": "B",
    "a": "Ay",
    "A B C, I-B-M, V.I.P.": "Ay B C, I-B-M, VIP.",
    "from a to z, and an A": "from Ay to Z, and an Ay",
    "A man has a plan A for a B.": "A man has a plan Ay for a B.",
    "a T-shirt and an e-mail": "a T-shirt and an E-mail",
    "foo(a, b), (a nice one)": "foo, Ay, B, a nice one",
    "NBA FINALS IN ST. LOUIS": "NBA finals in Saint Louis",
    "x = a + b": "X equals Ay plus B",
    "A. A. Milne and J. A. Smith": "Ay Ay Milne and J Ay Smith",
    "css, hmm, shh, a PhD, some DVDs": "CSS, hum, sh, a PHD, some DVDs",
    # programs and codes
    "getUserName, MAX_VALUE, my_var": "get user name, max value, my var",
    "An iPhone with WiFi; McDonald's": "An I phone with Wi Fi; Mcdonald's",
    "if (x == 1 && y != 2) { z += a[i]; }": "if, X equals one and Y is not equal to two, Z plus equals Ay, I;",
    "a<b and c>d": "Ay less than B and C greater than D",
    "x -> y, 2**3, a * b": "X to Y, two cubed, Ay times B",
    "The hash d41d8cd98f": "The hash D four one D eight C D nine eight F",
    "$x^2$ and \\frac{1}{2} of $5": "X squared and one over two of five dollars",
    "print(x)": "print, X",
    # tables and headings
    "| Name | Age |\n|---|---|\n| Ann | 5 |": "Name, Age. Ann, five",
    "# Title\nText.": "Title. Text.",
    # characters
    "рaypal and Ｆｕｌｌ 𝓗𝓮𝓵𝓵𝓸 🅷🅸": "paypal and Full Hello hi",
    "cafe\u0301 Z\u0361\u0327a\u0300l\u0335go so\u00adft z\u200bero \u202eright": "cafe Zalgo soft zero right",
    "one\ntwo\tthree": "one. two three",
}  # fmt: skip


@pytest.fixture(scope="module")
def normalizer() -> Normalizer:
    return Normalizer()


@pytest.mark.parametrize("written", CASES)
def test_reads_odd_text(normalizer: Normalizer, written: str) -> None:
    assert normalizer.normalize(written) == CASES[written]


@pytest.mark.parametrize(
    ("written", "text", "skipped"),
    [
        ("Look 😀 here", "Look here", ["😀"]),
        ("a private \ue000 one", "a private one", ["\ue000"]),
        ("an unpaired \ud800 half", "an unpaired half", ["\ufffd"]),
        ("он сказал yes", "yes", ["он", "сказал"]),
        ("Thanks :D and <3", "Thanks and", [":D", "<3"]),
        ("x" * 300, "", ["x" * 39 + "…"]),
        ("See " + "aGVsbG8gd29ybGQ" * 5, "See", None),
        ("some/" * 20 + "path ends", "ends", ["some/" * 7 + "some…"]),
        ("Go to https://example.com/" + "a1" * 100, "Go to example dot com", ["/" + "a1" * 19 + "…"]),
    ],
)
def test_reports_what_it_does_not_say(
    normalizer: Normalizer, written: str, text: str, skipped: list[str] | None
) -> None:
    result = normalizer.analyse(written)
    assert result.text == text
    assert result.skipped if skipped is None else list(result.skipped) == skipped


def test_the_report_tells_that_there_was_more() -> None:
    skipped = Skipped()
    for code in range(0x4E00, 0x4E00 + 500):
        skipped.add(chr(code))
    assert len(skipped.runs) == 101
    assert skipped.runs[-1] == "…"


def test_every_character_is_said_or_reported_or_makes_no_sound(normalizer: Normalizer) -> None:
    silent = {"Cc", "Cf", "Mn", "Me", "Zs", "Zl", "Zp", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po"}
    rng = random.Random(0)
    lost = []
    for _ in range(4000):
        character = chr(rng.choice([rng.randrange(0x80, 0x3000), rng.randrange(0x3000, 0x110000)]))
        result = normalizer.analyse(f"left {character} right")
        is_said = len(WORDS.findall(result.text)) > 2
        if not is_said and not result.skipped and unicodedata.category(character) not in silent:
            lost.append(f"U+{ord(character):04X}")
    # No sound of their own: trade marks, accents alone, footnote marks, a minus before nothing.
    assert set(lost) <= {f"U+{ord(c):04X}" for c in "™®℠´`¨¯˜¸ʹʻʼʾʿ■▪▸●◦⁰⁴⁵⁶⁷⁸⁹−"}, lost


def test_any_text_becomes_sayable_in_bounded_time(normalizer: Normalizer) -> None:
    for seed in range(150):
        rng = random.Random(seed)
        planes = [(0x20, 0x7F), (0xA0, 0x600), (0x2000, 0x2C00), (0x1F000, 0x1FB00), (0, 0x110000)]
        text = "".join(chr(rng.randrange(*rng.choice(planes))) for _ in range(rng.randrange(80)))
        result = normalizer.analyse(text)
        assert SAYABLE.fullmatch(result.text), text
        "".join(result.skipped).encode()  # can be printed


def test_no_word_of_plain_text_is_lost(normalizer: Normalizer) -> None:
    vocabulary = [*sorted(SHORT_WORDS), "wonderful", "Alexander", "don't", "o'clock", "I'm"]
    for seed in range(100):
        rng = random.Random(seed)
        words = [rng.choice(vocabulary) for _ in range(rng.randrange(1, 60))]
        text = "".join(
            word + rng.choice([" ", " ", " ", ", ", ". ", "? ", " - ", "\n", '" "', ") ("]) for word in words
        )
        for written in (text, text.upper()):
            assert [w.lower() for w in WORDS.findall(normalizer.normalize(written))] == [w.lower() for w in words], (
                written
            )


@pytest.mark.parametrize(
    "text", ["no no no no no", "that that", "word " * 300, "ha " * 50, "She said that that that is it."]
)
def test_repeated_and_endless_words_stay(normalizer: Normalizer, text: str) -> None:
    assert normalizer.normalize(text) == text.strip()


@pytest.mark.parametrize(
    "text", ["", "...", "---", "?!", "()[]{}", '"\'"', "***", "___", "\t\r\n", "…", "\u200b\u202e", "| | |"]
)
def test_punctuation_alone_is_nothing_to_say(normalizer: Normalizer, text: str) -> None:
    result = normalizer.analyse(text)
    assert (result.text, result.skipped) == ("", ())


@pytest.mark.parametrize(
    "piece", ["AA ", "THE US ", "aB", "aB1+/", "<a ", "| ", "http://a", "é", "рa", "*a*", "x_", "$a", "# "]
)
def test_time_is_in_proportion(normalizer: Normalizer, piece: str) -> None:
    normalizer.normalize(piece * 10)
    begin = time.process_time()
    normalizer.normalize(piece * 3000)
    assert time.process_time() - begin < 5


def test_a_word_can_be_told_by_its_letters() -> None:
    words = "strength months puzzled rhythm awkward judgment sixth beautiful covid ubuntu depths"
    assert [word for word in words.split() if not looks_like_a_word(word)] == []
    assert not any(map(looks_like_a_word, ["https", "xhtml", "pdfgh", "rstln", "bbc", "nfl", "xqzwt"]))
    assert is_word("stop") and is_word("nasa") and not is_word("usa") and not is_word("ibm")


def test_the_list_of_short_words_is_in_order() -> None:
    words = sorted(SHORT_WORDS)
    assert all(re.fullmatch("[a-z]{2,4}", word) for word in words)
    assert {"stop", "door", "the", "help"} < set(words)
    assert not {"us", "it", "fbi", "usa", "pm", "tv"} & set(words)
