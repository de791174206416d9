"""What people write and what a careful American reader says, one file for each kind of fault that users report.

A case is a line: written, a tab, the spoken forms that are right, parted by ` || `. The cases stood before the
rules.
"""

import re
import unicodedata
from pathlib import Path

import pytest

from voicegraft.text.frontend import open_frontend, spoken_text

NUMBERS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|"
    r"first|second|third|\w+th|\w+teen"
)
FILES = sorted(Path(__file__).with_name("cases").glob("*.tsv"))


def words(spoken: str) -> list[str]:
    """The words that are said: no accents, punctuation or quotes, no "and" inside a number; "dog's" is "dogs"."""
    text = unicodedata.normalize("NFKD", spoken.replace("’", "'"))
    text = "".join(char for char in text if not unicodedata.combining(char))
    text = " ".join(filter(None, (word.strip("'") for word in re.findall(r"[\w']+", text))))
    text = re.sub(rf"\b(hundred|thousand|[mbtr]+illion) and (?=({NUMBERS})\b)", r"\1 ", text, flags=re.IGNORECASE)
    return re.sub(r"'s\b", "s", text).split()


def pattern(right: str) -> str:
    """What matches a right form: letters (capitals) may stand together or apart, as front ends part them in many ways."""
    matches = ""
    was_letters = False
    for word in words(right):
        is_letters = re.fullmatch("[A-Z]+s?", word) is not None
        letters = ({"A": "ay?", "O": "oh?"}.get(letter, letter.lower()) for letter in word)
        matches += (" ?" if was_letters and is_letters else " ") if matches else ""
        matches += " ?".join(letters) if is_letters else re.sub("^oh$", "oh?", word.lower())
        was_letters = is_letters
    return matches


def is_right(spoken: str, right: list[str]) -> bool:
    return any(re.fullmatch(pattern(form), " ".join(words(spoken)).lower()) for form in right)


def read_cases(path: Path) -> list[tuple[str, list[str]]]:
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
    return [(row[0].replace("\\n", "\n").replace("\\x1b", "\x1b"), row[1].split(" || ")) for row in rows]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_reads_what_people_write(path: Path) -> None:
    frontend = open_frontend("english")
    failures = []
    for written, right in read_cases(path):
        spoken = spoken_text(frontend, written)
        if not is_right(spoken, right):
            failures.append(f"{written!r}\n    said  {spoken}\n    right {' || '.join(right)}")
    assert not failures, f"{len(failures)} wrong:\n" + "\n".join(failures)


@pytest.mark.parametrize(
    ("spoken", "right"),
    [
        ("The U. S. A. is in the U S A's way", "the USA is in the USA's way"),
        ("two P C's", "two PCs"),
        ("Plug the U S B C in.", "plug the USB C in"),
        ("Twenty-one", "twenty one"),
        ("nine hundred and eleven", "nine hundred eleven"),
        ("H two O at eight O five", "H two O at eight oh five"),
        ("Ay four “café”", "A four cafe"),
    ],
)
def test_forms_that_sound_the_same_are_equal(spoken: str, right: str) -> None:
    assert is_right(spoken, ["another", right])


@pytest.mark.parametrize(
    ("spoken", "right"),
    [
        ("seven S", "sevens"),
        ("MC", "M C squared"),
        ("they re", "they're"),
        ("a hundred and a half", "a hundred a half"),
    ],
)
def test_forms_that_sound_different_are_not(spoken: str, right: str) -> None:
    assert not is_right(spoken, [right])
