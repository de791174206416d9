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


def words(spoken: str) -> str:
    """The words alone: two forms that sound the same are equal.

    Capitals, accents, punctuation, hyphens, quotes and the apostrophe of "'s" do not count, nor does "and" inside a
    number, "o" for "oh" or "ay" for the letter. Letters said one by one are one word ("U S A" is "USA", "P C's" is "PCs"):
    front ends part them in different ways.
    """
    text = unicodedata.normalize("NFKD", spoken.replace("’", "'")).lower()
    text = "".join(char for char in text if not unicodedata.combining(char))
    text = " ".join(filter(None, (word.strip("'") for word in re.findall(r"[\w']+", text))))
    text = re.sub(rf"\b(hundred|thousand|[mbtr]+illion) and (?=({NUMBERS})\b)", r"\1 ", text)
    text = re.sub(r"\bay\b", "a", text)
    letters = r"(?<!\S)[^\W\d](?: [^\W\d](?!\S))*(?: (?!(?:is|as|us)(?!\S))[^\W\d](?:'?s)?)?(?!\S)"
    text = re.sub(letters, lambda match: match[0].replace(" ", ""), text)
    return re.sub(r"'s\b", "s", re.sub(r"\bo\b", "oh", text))


def read_cases(path: Path) -> list[tuple[str, list[str]]]:
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
    return [(row[0].replace("\\n", "\n").replace("\\x1b", "\x1b"), row[1].split(" || ")) for row in rows]


@pytest.mark.xfail(strict=False, reason="until the English reader is redesigned")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_reads_what_people_write(path: Path) -> None:
    frontend = open_frontend("english")
    failures = []
    for written, right in read_cases(path):
        spoken = spoken_text(frontend, written)
        if words(spoken) not in map(words, right):
            failures.append(f"{written!r}\n    said  {spoken}\n    right {' || '.join(right)}")
    assert not failures, f"{len(failures)} wrong:\n" + "\n".join(failures)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The U. S. A.", "the USA"),
        ("two P C's", "two PCs"),
        ("The U S A is in the U S A's way", "the USA is in the USA's way"),
        ("Twenty-one", "twenty one"),
        ("nine hundred and eleven", "nine hundred eleven"),
        ("eight O five", "eight oh five"),
        ("café", "cafe"),
    ],
)
def test_forms_that_sound_the_same_are_equal(one: str, other: str) -> None:
    assert words(one) == words(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("seven S", "sevens"),
        ("M C squared", "MC"),
        ("they re", "they're"),
        ("a hundred and a half", "a hundred a half"),
    ],
)
def test_forms_that_sound_different_are_not(one: str, other: str) -> None:
    assert words(one) != words(other)
