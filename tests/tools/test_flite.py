import shutil

import pytest

from pocket.flite import SyntheticConfig, read_aloud, refine_with_context
from voicegraft.data.lexicon import Lexicon
from voicegraft.teachers.flite import flite_lexicon
from voicegraft.text.units import PHONES, phones_by_word, words_of

TEXT = "The old man sat down, and the owl saw him."
CONFIG = SyntheticConfig(voices=("rms", "slt"), shares=(0.5, 0.5))
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite")


@needs_flite
def test_a_sentence_is_read_unit_by_unit() -> None:
    lexicon = flite_lexicon(word.key for word in words_of(TEXT))
    units = read_aloud(99, TEXT, lexicon, CONFIG)
    assert units is not None and units == read_aloud(99, TEXT, lexicon, CONFIG)
    assert sum(unit not in PHONES for unit in units) == 1 + len(words_of(TEXT))
    assert phones_by_word(units)[2] == ("m", "ae", "n")


@needs_flite
def test_words_that_are_not_in_the_lexicon_are_left_out() -> None:
    assert read_aloud(1, TEXT, flite_lexicon(["the"]), CONFIG) is None


def test_a_word_is_pronounced_as_it_is_heard_most_often() -> None:
    lexicon = Lexicon({"the": ("dh", "iy"), "owl": ("aw", "l")})
    heard = [("The.", ("^", "dh", "ax", ".")), ("The.", ("^", "dh", "iy", ".")), ("The.", ("^", "dh", "ax", "."))]
    assert refine_with_context(lexicon, heard).entries == {"the": ("dh", "ax"), "owl": ("aw", "l")}
