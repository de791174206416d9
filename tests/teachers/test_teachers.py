"""flite and a pack as teachers: what they say, and the times that they know."""

import shutil

import numpy as np
import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.inference.report import SpokenPhone, SpokenSentence, SpokenWord
from voicegraft.teachers.base import Teacher
from voicegraft.teachers.choice import open_teacher
from voicegraft.teachers.pack import _units
from voicegraft.text.units import PHONES, words_of

TEXT = "The old man sat down, and the owl saw him."


def check(teacher: Teacher, text: str) -> None:
    said, again = (teacher.say(text, teacher.voices[0], 1.0, 3) for _ in range(2))
    assert np.array_equal(said.samples, again.samples) and said.samples.dtype == np.float32
    assert said.units and len(said.units) == len(said.unit_ends_sec)
    assert sum(unit not in PHONES for unit in said.units) == 1 + len(words_of(text))
    assert list(said.unit_ends_sec) == sorted(said.unit_ends_sec)
    assert said.unit_ends_sec[-1] == pytest.approx(len(said.samples) / teacher.sample_rate, abs=0.1)


@pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite")
def test_flite_knows_its_units_and_speaks_at_any_speed() -> None:
    teacher = open_teacher("flite", None, {})
    check(teacher, TEXT)
    slow, fast = (len(teacher.say(TEXT, "slt", speed, 0).samples) for speed in (0.8, 1.25))
    assert slow / fast == pytest.approx(1.25 / 0.8, rel=0.1)


def test_the_pack_that_ships_knows_its_units() -> None:
    teacher = open_teacher("pack", None, {})
    assert teacher.name.startswith("voicegraft pack") and not teacher.has_speed
    check(teacher, "The old man sat down.")


def test_words_with_times_become_units() -> None:
    words = tuple(
        SpokenWord(word, (0, 1), start, start + 0.2, (SpokenPhone("ax", start, start + 0.2),))
        for word, start in (("a", 0.1), ("b", 0.3), ("c", 0.7))
    )
    sentence = SpokenSentence("", "A b, c.", 0.0, 1.0, words, "ok")
    units, ends = _units((sentence,), 1.0)
    assert " ".join(units) == "^ ax | ax , ax ." and ends == pytest.approx((0.1, 0.3, 0.3, 0.5, 0.7, 0.9, 1.0))
    assert _units((SpokenSentence("", "A b c d.", 0.0, 1.0, words, "ok"),), 1.0) == ((), ())


def test_another_teacher_is_refused() -> None:
    with pytest.raises(VoicegraftError, match="expected a teacher of kokoro, flite, pack, got 'ann'"):
        open_teacher("ann", None, {})
