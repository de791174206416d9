import numpy as np
import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.metrics import rates as metrics


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's  “well-known”, isn\u2019t it?", "its well known isnt it"),
        ("ﬁne \u2014 CAFÉ\n", "fine café"),
        ("cafe\u0301", "café"),
        ("a\u0327\u0301", "a\u0327\u0301".replace("a\u0327\u0301", "á\u0327")),
        ("...", ""),
    ],
)
def test_transcripts_are_compared_in_one_form(text, expected):
    assert metrics.normalize_transcript(text) == expected


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors", "length"),
    [
        ("the cat sat", "The cat, sat!", 0, 3),
        ("the cat sat", "the bat sat down", 2, 3),
        ("the cat sat", "", 3, 3),
        ("", "two words", 2, 0),
    ],
)
def test_word_edits(reference, hypothesis, errors, length):
    pytest.importorskip("jiwer")
    assert metrics.word_edits(reference, hypothesis) == metrics.EditCounts(errors, length)


def test_char_edits_count_characters():
    pytest.importorskip("jiwer")
    assert metrics.char_edits("The cat", "the bat") == metrics.EditCounts(1, 7)


def test_bootstrap_ratio_weighs_items_by_length_and_encloses_the_value():
    draw = np.random.default_rng(1)
    lengths = draw.integers(3, 20, size=200)
    errors = draw.binomial(lengths, 0.2)
    estimate = metrics.bootstrap_ratio(list(errors), list(lengths))
    assert estimate.value == pytest.approx(errors.sum() / lengths.sum())
    assert estimate.low < estimate.value < estimate.high
    # The interval of a proportion of 0.2 over some 2,200 words: about four standard errors wide.
    assert estimate.high - estimate.low == pytest.approx(4 * np.sqrt(0.2 * 0.8 / lengths.sum()), rel=0.3)
    assert metrics.bootstrap_ratio(list(errors), list(lengths)) == estimate


def test_bootstrap_interval_narrows_with_more_items():
    values = list(np.random.default_rng(2).normal(3, 1, size=400))
    few, many = metrics.bootstrap_mean(values[:25]), metrics.bootstrap_mean(values)
    assert many.high - many.low < 0.5 * (few.high - few.low)


@pytest.mark.parametrize(("top", "bottom"), [([], []), ([1], [0]), ([1, 2], [3])])
def test_bootstrap_refuses_what_is_no_ratio(top, bottom):
    with pytest.raises(VoicegraftError):
        metrics.bootstrap_ratio(top, bottom)


def test_cosine():
    a = np.array([1.0, 2.0, 3.0])
    assert metrics.cosine(a, 5 * a) == pytest.approx(1)
    assert metrics.cosine(a, np.array([3.0, 0.0, -1.0])) == pytest.approx(0)
    assert metrics.cosine(a, np.zeros(3)) == 0


@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_spoken_sec_leaves_out_silence_at_the_ends_only(gain):
    rate = 16_000
    draw = np.random.default_rng(0)
    sound, hiss = draw.normal(0, 0.1, rate), draw.normal(0, 0.0005, rate)
    samples = gain * np.concatenate([hiss, sound, hiss, sound, hiss])
    assert metrics.spoken_sec(samples, rate) == pytest.approx(3.0, abs=0.03)


def test_spoken_sec_of_nothing_is_zero():
    assert metrics.spoken_sec(np.zeros(16_000, np.float32), 16_000) == 0
    assert metrics.spoken_sec(np.zeros(0, np.float32), 16_000) == 0


def test_budget_leaves_room_for_slow_readers_and_grows_with_the_text():
    sentence = "The birch canoe slid on the smooth planks."
    assert 5 < metrics.duration_budget_sec(sentence) < 15
    assert metrics.duration_budget_sec(sentence * 10) > 8 * metrics.duration_budget_sec(sentence) - 16
