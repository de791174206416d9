import shutil

import numpy as np
import pytest

from pocket.flite import SyntheticConfig, read_aloud
from voicegraft.data.prepared import frame_counts
from voicegraft.teachers.flite import flite_lexicon
from voicegraft.text.units import PHONES, words_of

pytestmark = pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite")

TEXT = "The old man sat down, and the owl saw him."
CONFIG = SyntheticConfig(voices=("rms", "slt"), shares=(0.5, 0.5))


def test_a_sentence_is_read_with_the_times_of_its_units() -> None:
    lexicon = flite_lexicon(word.key for word in words_of(TEXT))
    made = read_aloud(99, TEXT, "val", lexicon, CONFIG, 24_000)
    assert made is not None
    utterance, samples = made
    assert utterance.split == "val" and utterance.speaker in ("flite-rms", "flite-slt")
    assert utterance.duration_sec == len(samples) / 24_000
    ends = utterance.unit_ends_sec
    assert list(ends) == sorted(ends) and ends[-1] == pytest.approx(utterance.duration_sec, abs=0.1)
    assert sum(u not in PHONES for u in utterance.units) == 1 + len(words_of(TEXT))
    # Where the first unit says silence the sound is quiet, and where phones are it is not.
    counts = frame_counts(utterance, len(samples) // 480, 50.0)
    level = np.sqrt(np.mean(samples[: len(samples) // 480 * 480].reshape(-1, 480) ** 2, 1))
    spoken = np.repeat([u in PHONES for u in utterance.units], counts)
    assert level[spoken].mean() > 5 * level[: max(1, counts[0] - 1)].mean()


def test_the_voice_and_the_tempo_follow_from_the_number_alone() -> None:
    lexicon = flite_lexicon(word.key for word in words_of(TEXT))
    once, again = (read_aloud(3, TEXT, "train", lexicon, CONFIG, 16_000) for _ in range(2))
    assert once is not None and again is not None
    assert once[0] == again[0] and np.array_equal(once[1], again[1])
    others = [read_aloud(n, TEXT, "train", lexicon, CONFIG, 16_000) for n in range(4, 8)]
    assert len({o[0].duration_sec for o in others if o}) > 1


def test_words_that_are_not_in_the_lexicon_are_left_out() -> None:
    assert read_aloud(1, TEXT, "train", flite_lexicon(["the"]), CONFIG, 16_000) is None
