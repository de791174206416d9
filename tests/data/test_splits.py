"""One rule says what is held back, for clips, sentences, questions and pieces of books."""

import hashlib
import itertools

import pytest

from voicegraft.data.questions import make_up
from voicegraft.data.splits import HELD_BACK, SMALLEST, Splits, hash_share, text_key

TEXTS = [f"Sentence {n} is read." for n in range(5000)]


def test_a_text_is_on_one_side_however_it_is_written_and_wherever_it_stands() -> None:
    rule, backwards = Splits.over(TEXTS), Splits.over(TEXTS[::-1])
    held_back = {text for text in TEXTS if rule.holds_back(text)}
    assert len(held_back) / len(TEXTS) == pytest.approx(HELD_BACK, abs=0.006)
    assert held_back == {text for text in TEXTS if backwards.holds_back(text.upper().rstrip("."))}
    assert text_key("Caf\u00e9 Nr. 5") == text_key("CAFE\u0301, nr 5!") == "caf\u00e9nr5" and text_key(None) == ""


def test_a_larger_share_holds_back_more_and_what_a_smaller_one_does() -> None:
    sides = []
    for share in (SMALLEST, 0.001, 0.05, 0.5):
        rule = Splits.over(TEXTS, share)
        sides.append({text for text in TEXTS if rule(text) == "val"})
    assert [len(side) for side in sides[:2]] == [20, 20]
    assert all(few <= many for few, many in itertools.pairwise(sides)) and len(sides[3]) > len(sides[2]) > 20
    nothing = Splits.over(TEXTS, 0.0)
    assert not any(nothing.holds_back(text) for text in TEXTS)


@pytest.mark.parametrize(("num_texts", "least"), [(1, 0), (2, 1), (30, 3), (199, 19), (1000, 20)])
def test_of_few_texts_a_tenth_is_held_back_at_least(num_texts: int, least: int) -> None:
    rule = Splits.over(TEXTS[:num_texts] * 2, SMALLEST)
    assert sum(rule.holds_back(text) for text in TEXTS[:num_texts]) == least


def test_a_corpus_of_its_own_splits_keeps_them() -> None:
    rule = Splits()
    for number, text in enumerate(TEXTS):
        rule.see(text, "test" if number == 7 else "")
    assert [rule(text, "test" if n == 7 else "") for n, text in enumerate(TEXTS)].count("train") == len(TEXTS) - 1


def test_questions_and_books_are_on_the_sides_that_the_shipped_results_were_measured_with() -> None:
    assert hash_share("question sum 3 4") == pytest.approx(0.8205434602691248, abs=1e-15)
    assert hash_share("alice.txt 3") == pytest.approx(0.4514533695410172, abs=1e-15)
    asked = {
        (kind, held_back): [question.text for question in make_up(kind, 1, 200, held_back)]
        for kind in ("reading", "arithmetic", "words")
        for held_back in (True, False)
    }
    digests = {key: hashlib.sha256(repr(texts).encode()).hexdigest()[:8] for key, texts in asked.items()}
    assert " ".join(digests.values()) == "5ba7f8f8 bf1e8798 5bfa2ddb 53fb1fee a3898a83 14de0425"


def test_what_one_of_several_collections_holds_back_none_trains_on() -> None:
    """Whether by hash or by its own word, and however large the others are."""
    few, many = [f"few {n}" for n in range(30)], [f"many {n}" for n in range(3000)]
    together = Splits()
    hashed, large, own = together.part(), together.part(), together.part()
    for text in few:
        hashed.see(text)
    for text in many + few:
        large.see(text)
    for number, text in enumerate(many):
        own.see(text, "test" if number < 5 else "train")
    for part in (hashed, large):
        assert {part(text) for text in many[:5]} == {"val"}
    assert {own(text, "test") for text in many[:5]} == {"test"}
    sides = [(hashed(text), large(text), own(text, "train")) for text in few + many[5:]]
    assert all(len(set(side)) == 1 for side in sides) and {side[0] for side in sides} == {"train", "val"}
