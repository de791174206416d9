"""Words of one spelling and two pronunciations are said as their sentence asks for."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tools.build_heteronyms import EXAMPLES, MARKED
from voicegraft.data.lexicon import Lexicon
from voicegraft.text.english.frontend import EnglishFrontend
from voicegraft.text.english.heteronyms import WEIGHTS_FILE, heteronyms, pronunciations
from voicegraft.text.units import PHONES, words_of

SENTENCES = [
    line
    for line in (Path(__file__).parent / "heteronyms.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


def readings(text: str) -> list[tuple[str, str]]:
    """The heteronyms that the front end finds in a text, and the reading of each."""
    found = []
    for form in EnglishFrontend().sentences([text]):
        for part in form.parts:
            words = words_of(part.text)
            for number, phones in part.pronunciations.items():
                known = heteronyms()[words[number].key]
                found.append((words[number].key, known.readings[known.phones.index(phones)]))
    return found


def test_ninety_four_in_a_hundred_heteronyms_are_said_right() -> None:
    """220 of 232 when it was made; the speech expert alone gets 113 right."""
    answers = []
    for line in SENTENCES:
        found = readings(MARKED.sub(r"\1", line))
        answers += [(word.lower(), reading) in found for word, reading in MARKED.findall(line)]
    assert len(answers) == 232 and len({word.lower() for line in SENTENCES for word, _ in MARKED.findall(line)}) > 80
    assert sum(answers) >= 0.94 * len(answers)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I read books every day", "read:present"),
        ("Lead pipes lead here", "lead:metal lead:guide"),
        ("We are live now.", "live:adjective"),
        ("Wind it up.", "wind:turn"),
        ("It took 3 years, and he lives at 221B.", "lives:verb"),
        ("They were too close to the door to close it.", "close:adjective close:verb"),
        ("PLEASE READ THE RECORD!", "read:present record:noun"),
        ("She wound the bandage around the wound.", "wound:turned wound:hurt"),
        ("Dr. Lee used to live here.", "used:to live:verb"),
        ("The factory produces what the farm's contracts require.", "produces:verb contracts:noun"),
        ("The quick brown fox jumps over the lazy dog.", ""),
    ],
)
def test_the_sentence_tells(text: str, expected: str) -> None:
    assert readings(text) == [tuple(pair.split(":")) for pair in expected.split()]


def test_capitals_are_letters() -> None:
    assert pronunciations("The SOW is in the JOB file.") == {} and 1 in pronunciations("The sow is in the barn.")


def test_readings_are_phones_and_differ() -> None:
    known = heteronyms()
    assert len(known) > 200
    for word, heteronym in known.items():
        assert set(heteronym.phones[0]) | set(heteronym.phones[1]) <= set(PHONES), word
        assert (heteronym.phones[0] == heteronym.phones[1]) == (heteronym.readings[0] == heteronym.readings[1]), word
    assert known["uses"].phones == (("y", "uw", "s", "ih", "z"), ("y", "uw", "z", "ih", "z"))
    assert known["addresses"].phones[1][-2:] == ("ih", "z") and known["records"].phones[0][-1] == "z"
    assert (
        known["separates"].readings == ("verb", "verb")
        and known["objects"].phones[0][-1] == "s"
        and known["lives"].readings == ("noun", "verb")
    )


def test_the_weights_are_small_and_plain_arrays() -> None:
    assert WEIGHTS_FILE.stat().st_size < 300_000
    with np.load(WEIGHTS_FILE, allow_pickle=False) as file:
        assert file["weights"].dtype == np.int8 and file["scale"].shape == ()


def test_text_without_heteronyms_loads_no_weights() -> None:
    code = (
        "from voicegraft.text.english import heteronyms as h; h.pronunciations('We sat down.');"
        "assert not h._weights.cache_info().currsize; h.pronunciations('We read.');"
        "import sys; assert h._weights.cache_info().currsize and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_trained_on_is_not_tested_on() -> None:
    def texts(lines: list[str]) -> set[str]:
        return {MARKED.sub(r"\1", line).lower() for line in lines if not line.startswith(("#", "~"))}

    assert not texts(EXAMPLES.read_text(encoding="utf-8").splitlines()) & texts(SENTENCES)


def test_training_says_heteronyms_as_speaking_does() -> None:
    entries = {"i": ("ay",), "will": ("w", "ih", "l"), "read": ("r", "eh", "d"), "it": ("ih", "t")}
    units = Lexicon(entries).units("I will read it.")
    assert units is not None and " ".join(units) == "^ ay | w ih l | r iy d | ih t ."
    assert pronunciations("I will read it.") == {2: ("r", "iy", "d")}
    assert Lexicon({"i": ("ay",)}).units("I read it.") is None
