"""Word times, on speech of the pack that ships."""

import sys

import numpy as np
import pytest

from tests.spoken import TEXTS, spoken, words_in
from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.judges.word_alignment import AlignmentError, ForcedAligner, GrammarDecoder

pocketsphinx = pytest.importorskip("pocketsphinx")


@pytest.fixture(scope="module")
def aligner():
    return ForcedAligner()


def starts(timed):
    return np.array([word.start_sec for word in timed])


@pytest.mark.parametrize("text", TEXTS)
def test_words_come_in_order_and_fill_the_speech(aligner, text):
    rate, clips = spoken()
    words = words_in(text)
    timed = aligner.align(clips[text], rate, words)
    assert [word.word for word in timed] == words
    edges = [edge for word in timed for edge in (word.start_sec, word.end_sec)]
    assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= len(clips[text]) / rate
    assert sum(word.end_sec - word.start_sec for word in timed) > 0.8 * len(clips[text]) / rate
    long, short = max(timed, key=lambda word: len(word.word)), timed[words.index("the")]
    assert long.end_sec - long.start_sec > short.end_sec - short.start_sec


def test_what_goes_before_moves_every_word(aligner):
    rate, clips = spoken()
    first, second = (clips[text] for text in TEXTS)
    alone = starts(aligner.align(second, rate, words_in(TEXTS[1])))
    late = starts(aligner.align(np.pad(second, (rate // 2, 0)), rate, words_in(TEXTS[1])))
    np.testing.assert_allclose(late, alone + 0.5, atol=0.03)
    both = aligner.align(np.concatenate([first, second]), rate, [*words_in(TEXTS[0]), *words_in(TEXTS[1])])
    np.testing.assert_allclose(starts(both[len(words_in(TEXTS[0])) :]), alone + len(first) / rate, atol=0.06)


def test_a_given_pronunciation_stands_in_for_the_dictionary(aligner):
    rate, clips = spoken()
    words = words_in(TEXTS[1])
    named = ["xyzzy" if word == "letter" else word for word in words]
    given = aligner.align(clips[TEXTS[1]], rate, named, {"xyzzy": ("l", "eh", "t", "er")})
    expected = aligner.align(clips[TEXTS[1]], rate, words)
    assert [word.word for word in given] == named
    np.testing.assert_allclose(starts(given), starts(expected), atol=0.02)


@pytest.mark.parametrize("phones", [("l", "q"), ()])
def test_an_unknown_phone_is_refused(aligner, phones):
    rate, clips = spoken()
    with pytest.raises(VoicegraftError, match=r"'she'.*CMU"):
        aligner.align(clips[TEXTS[1]], rate, ["she"], {"she": phones})


@pytest.mark.parametrize(("samples", "num_words"), [(np.zeros(16_000), 2), (np.zeros(0), 2), (np.ones(800), 9)])
def test_what_cannot_be_said_is_an_error(aligner, samples, num_words):
    with pytest.raises(AlignmentError, match="cannot be aligned"):
        aligner.align(samples, 16_000, ["strengths"] * num_words)
    with pytest.raises(AlignmentError, match="no word"):
        aligner.align(samples, 16_000, [])


def test_words_beyond_the_dictionary_are_spelled_from_what_it_knows():
    decoder = GrammarDecoder()
    assert decoder.spell("nightglow") == ["N", "AY", "T", "G", "L", "OW"]
    assert decoder.spell("selden's") == ["S", "EH", "L", "D", "AH", "N", "Z"]
    assert all(decoder.spell(letter) for letter in "abcdefghijklmnopqrstuvwxyz")
    assert decoder.name("house") == "house"
    assert decoder.name("nightglow") == decoder.name("nightglow") != "nightglow"


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(VoicegraftError, match=r"pocketsphinx.*pip install voicegraft\[evaluate\]"):
        ForcedAligner()
