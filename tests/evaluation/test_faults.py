"""Faults are cut into speech of the pack that ships, at the times of its words."""

import numpy as np
import pytest

from tests.spoken import TEXTS, spoken, words_in
from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.judges.faults import NOISE, REPEAT, SKIP, TRUNCATION, FaultJudge
from voicegraft.evaluation.judges.word_alignment import ForcedAligner

pytest.importorskip("pocketsphinx")


@pytest.fixture(scope="module")
def judge():
    return FaultJudge()


@pytest.fixture(scope="module", params=TEXTS)
def said(request):
    """(text, its words, sample rate, samples, where each word begins, where the last one ends)"""
    rate, clips = spoken()
    words = words_in(request.param)
    timed = ForcedAligner().align(clips[request.param], rate, words)
    edges = [round(word.start_sec * rate) for word in timed]
    return request.param, words, rate, clips[request.param], edges, round(timed[-1].end_sec * rate)


def noise(num_samples, level):
    return np.random.default_rng(0).normal(0, level, num_samples).astype(np.float32)


def test_good_speech_has_no_fault(judge, said):
    text, _, rate, samples, *_ = said
    assert judge.faults(samples, rate, text) == ()
    assert judge.faults(0.1 * np.pad(samples, rate // 2), rate, text.upper()) == ()


@pytest.mark.parametrize("num_words", [2, 3])
def test_words_cut_out_are_skipped(judge, said, num_words):
    text, words, rate, samples, edges, _ = said
    cut = np.concatenate([samples[: edges[3]], samples[edges[3 + num_words] :]])
    (fault,) = judge.find(cut, rate, text)
    assert fault.kind == SKIP and fault.words == tuple(words[3 : 3 + num_words])
    assert fault.at_sec == pytest.approx(edges[3] / rate, abs=0.15)


@pytest.mark.parametrize("num_words", [2, 3])
def test_words_said_again_are_repeated(judge, said, num_words):
    text, words, rate, samples, edges, _ = said
    doubled = np.concatenate([samples[: edges[2 + num_words]], samples[edges[2] :]])
    (fault,) = judge.find(doubled, rate, text)
    assert fault.kind == REPEAT and fault.words == tuple(words[2 : 2 + num_words])
    assert fault.at_sec == pytest.approx(edges[2 + num_words] / rate, abs=0.15)


def test_a_missing_end_is_a_truncation(judge, said):
    text, words, rate, samples, edges, _ = said
    (fault,) = judge.find(samples[: edges[-3]], rate, text)
    assert fault.kind == TRUNCATION and fault.words == tuple(words[-3:])


def test_sound_after_the_last_word_is_noise_when_it_is_long_and_loud(judge, said):
    text, _, rate, samples, _, end = said
    speech = samples[:end]
    level = float(np.sqrt((speech**2).mean()))
    assert judge.faults(np.concatenate([speech, noise(rate, level)]), rate, text) == (NOISE,)
    assert judge.faults(np.concatenate([speech, noise(rate // 5, level)]), rate, text) == ()
    assert judge.faults(np.concatenate([speech, noise(rate, 0.01 * level)]), rate, text) == ()


def test_a_word_said_as_another_is_no_fault(judge, said):
    text, _, rate, samples, *_ = said
    other = text.replace("home", "street").replace("letter", "balloon")
    assert other != text
    assert judge.faults(samples, rate, other) == ()


def test_no_speech_is_a_truncation_of_everything(judge):
    for nothing in (np.zeros(0, np.float32), np.zeros(16_000, np.float32), noise(400, 0.1)):
        (fault,) = judge.find(nothing, 16_000, "Not a word.")
        assert fault.kind == TRUNCATION and fault.words == ("not", "a", "word")


def test_a_text_without_words_is_refused(judge):
    with pytest.raises(VoicegraftError, match="has no word"):
        judge.faults(np.zeros(16_000, np.float32), 16_000, "?!")
