import itertools
from functools import cache

import pytest

from voicegraft.data.spelling import LETTER_WINDOW, LETTERS, MOST_PHONES, NUM_LETTERS, Speller, letter_windows

WORDS = {
    "cat": "k ae t", "can": "k ae n", "cot": "k aa t", "knot": "n aa t", "not": "n aa t", "fox": "f aa k s",
    "box": "b aa k s", "the": "dh ax", "then": "dh eh n", "thin": "th ih n", "ten": "t eh n", "in": "ih n",
    "tin": "t ih n", "tax": "t ae k s", "knit": "n ih t", "kit": "k ih t", "cow": "k aw", "now": "n aw",
    "don't": "d ow n t", "hat": "hh ae t", "hit": "hh ih t", "hen": "hh eh n",
}  # fmt: skip


@cache
def speller() -> Speller:
    return Speller((word, tuple(phones.split())) for word, phones in WORDS.items())


@pytest.mark.parametrize("word", WORDS)
def test_the_groups_are_the_phones_in_order(word: str) -> None:
    phones = tuple(WORDS[word].split())
    groups = speller().align(word, phones)
    assert groups is not None and len(groups) == len(word)
    assert tuple(itertools.chain(*groups)) == phones
    assert max(map(len, groups)) <= MOST_PHONES


def test_letters_make_the_phones_they_usually_make() -> None:
    align = speller().align
    assert align("fox", ("f", "aa", "k", "s")) == (("f",), ("aa",), ("k", "s"))
    assert align("can", ("k", "ae", "n")) == (("k",), ("ae",), ("n",))
    assert align("knit", ("n", "ih", "t"))[1:] == (("n",), ("ih",), ("t",))  # type: ignore[index]
    assert align("hox", ("hh", "aa", "k", "s")) == (("hh",), ("aa",), ("k", "s"))  # never seen


def test_a_word_with_too_many_phones_is_not_aligned() -> None:
    assert speller().align("a", ("t", "t", "t")) is not None
    assert speller().align("a", ("t", "t", "t", "t")) is None
    assert Speller([("w", tuple(["d", "ah", "b", "ax", "l", "y", "uw"]))]).align("w", ("w",)) == (("w",),)


def test_silent_words_have_silent_letters() -> None:
    assert speller().align("shh", ()) == ((), (), ())


def test_a_window_shows_a_letter_with_its_neighbours() -> None:
    rows = letter_windows("Don't")
    assert len(rows) == 5 and all(len(row) == LETTER_WINDOW.width for row in rows)
    assert rows[0][:3] == (0, 0, 0) and rows[4][4:] == (0, 0, 0, 0)  # beyond the word
    # The "n" is seen from every letter, at another place of the window each: another row each.
    seen = [row[LETTER_WINDOW.before + 2 - i] for i, row in enumerate(rows)]
    assert len(set(seen)) == 5 and len({(r - 1) % NUM_LETTERS for r in seen}) == 1
    assert all(0 < r < LETTER_WINDOW.num_rows for r in seen)


def test_every_letter_and_place_has_a_row_of_its_own() -> None:
    rows = [letter_windows(letter)[0][LETTER_WINDOW.before] for letter in (*LETTERS, *LETTERS[:26].upper())]
    assert len(set(rows)) == 53 and min(rows) > 0 and max(rows) < LETTER_WINDOW.num_rows
