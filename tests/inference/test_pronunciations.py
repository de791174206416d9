"""The phones of a word may be given; what is said, watched and timed is then those, and the rest is as before."""

import numpy as np
import pytest

from tests import tiny
from tests.inference.test_engine import OPTIONS, model
from voicegraft.guard.guarded import GuardedTokens
from voicegraft.inference.engine import Engine, SentenceTokens, sentence_tokens
from voicegraft.inference.speaker import Speaker
from voicegraft.text.units import phones_by_word

TEXT = "The owl sees my house."
GIVEN = {1: ("l", "iy", "d"), 4: ("hh", "aw", "z", "ih", "z", "s", "t", "ax", "k")}


def given(lm: object, number: int = 0, engine: Engine | None = None, **options: object) -> SentenceTokens:
    random = np.random.default_rng(number)
    pronunciations = [GIVEN, {}, {0: ("z",)}][number % 3]
    return sentence_tokens(lm, TEXT, "ann", OPTIONS, random, engine, pronunciations=pronunciations)  # type: ignore[arg-type]


@pytest.mark.parametrize("folded", [False, True], ids=["transformers", "folded"])
@pytest.mark.parametrize("size", [1, 2])
def test_given_phones_are_said_and_other_words_are_spelt(folded: bool, size: int) -> None:
    lm = model(folded, frames_per_step=size)
    free, forced = (phones_by_word(given(lm, number).spell()) for number in (1, 0))
    assert {n: forced[n] for n in GIVEN} == GIVEN
    assert forced[0] == free[0] and all(forced)  # what comes after a word may hear how that was said
    tokens = given(lm)
    list(tokens)
    assert [spoken.unit for spoken in tokens.spoken] == tokens.units and not tokens.machine.cut


def test_no_pronunciations_and_empty_ones_are_the_models_own() -> None:
    lm = model(False)
    own = sentence_tokens(lm, TEXT, "ann", OPTIONS, np.random.default_rng(0))
    empty = sentence_tokens(lm, TEXT, "ann", OPTIONS, np.random.default_rng(0), pronunciations={1: ()})
    assert list(own) == list(empty) and own.units == empty.units


@pytest.mark.parametrize("folded", [False, True], ids=["transformers", "folded"])
def test_many_at_once_say_what_each_says_alone(folded: bool) -> None:
    lm = model(folded)
    alone = [list(given(lm, number)) for number in range(9)]
    engine = Engine(lm)
    together = [given(lm, number, engine) for number in range(9)]
    for tokens in together:
        engine.join(tokens)
    said: list[list[int]] = [[] for _ in together]
    while not all(tokens.is_over for tokens in together):
        engine.step()
        for tokens, codes in zip(together, said, strict=True):
            codes += tokens.take()
    assert said == alone
    assert phones_by_word(together[3].units)[1] == GIVEN[1]


@pytest.mark.parametrize("folded", [False, True], ids=["transformers", "folded"])
def test_going_back_says_the_same_again(folded: bool) -> None:
    lm = model(folded)
    greedy = {"semantic": OPTIONS.semantic.__class__(0.0, 1.0), "length_spread": 0.0}
    options = OPTIONS.__class__(**{**OPTIONS.__dict__, **greedy})
    whole = sentence_tokens(lm, TEXT, "ann", options, pronunciations=GIVEN)
    codes = list(whole)
    starts = [spoken.start_frame for spoken in whole.spoken]
    for unit in (len(starts) - 3, 4, 0):
        whole.rewind(starts[unit], unit)
        assert codes[: starts[unit]] + list(whole) == codes


def test_the_plain_layout_finds_its_own_pronunciation() -> None:
    lm = model(False, vocabulary=tiny.PLAIN, layout="plain")
    assert list(given(lm)) == list(sentence_tokens(lm, TEXT, "ann", OPTIONS, np.random.default_rng(0)))


def test_a_heteronym_is_reported_with_its_phones_and_times_and_watched_by_them() -> None:
    """The pocket pack, whose own spelling of the word is the past in both."""
    speaker = Speaker.load()
    speech = speaker.say("I will read it. She has read it.")
    words = [word for sentence in speech.sentences for word in sentence.words]
    read = [word for word in words if word.word == "read"]
    assert [[phone.phone for phone in word.phones] for word in read] == [["r", "iy", "d"], ["r", "eh", "d"]]
    assert all(word.start_sec < word.end_sec for word in read)
    assert speech.status == "ok" and speech.sentences[0].status == "ok"
    pronunciations = {2: ("r", "iy", "d")}
    tokens = sentence_tokens(
        speaker.pack.lm, "I will read it.", "kathleen", speaker.pack.header.options, pronunciations=pronunciations
    )
    assert speaker.pack.monitor is not None
    guarded = GuardedTokens(tokens, speaker.pack.monitor, "kathleen", speaker.pack.header.options.guard)
    assert list(guarded) and not guarded.unmended
    assert " ".join(s.unit for s in guarded.spoken) == "^ ay | w ih l | r iy d | ih t ."
