import shutil
from pathlib import Path

import pytest

from pocket.flite import refine_with_context
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.lexicon import Lexicon
from voicegraft.teachers import flite
from voicegraft.teachers.flite import flite_lexicon, place_words
from voicegraft.text.units import BOUNDARIES, PHONES, START, UNITS, words_of

LEXICON = Lexicon(
    {
        "the": ("dh", "ax"),
        "old": ("ow", "l", "d"),
        "man": ("m", "ae", "n"),
        "a": ("ey",),
        "cat": ("k", "ae", "t"),
        "saw": ("s", "ao"),
    }
)


def test_units_are_distinct() -> None:
    assert len(set(UNITS)) == len(UNITS) == len(PHONES) + 1 + len(BOUNDARIES)


@pytest.mark.parametrize(
    "text, pairs",
    [
        ("Hello, old world", [("hello", ","), ("old", "|"), ("world", ".")]),
        ("Is it? Yes!", [("is", "|"), ("it", "?"), ("yes", "!")]),
        ("Wait -- what; no: yes…", [("wait", ","), ("what", ","), ("no", ","), ("yes", ".")]),
        ("“Don’t,” he said.", [("don't", ","), ("he", "|"), ("said", ".")]),
        ("What?! Really?", [("what", "?"), ("really", "?")]),
        ("Trailing comma,", [("trailing", "|"), ("comma", ".")]),
        ("well-known", [("well", "|"), ("known", ".")]),
        ("... !", []),
        ("", []),
    ],
)
def test_words_and_their_boundaries(text: str, pairs: list[tuple[str, str]]) -> None:
    assert [(word.key, word.boundary) for word in words_of(text)] == pairs


def test_the_written_words_are_the_text() -> None:
    text = "He said: “The F.B.I. can't  come,” and left"
    words = words_of(text)
    assert [w.key for w in words] == ["he", "said", "the", "f", "b", "i", "can't", "come", "and", "left"]
    assert "".join("".join(w.written for w in words).split()) == "".join(text.split())


def test_a_sentence_becomes_units() -> None:
    units = LEXICON.units("The man saw a cat, man!")
    assert units is not None and " ".join(units) == "^ dh ax | m ae n | s ao | ey | k ae t , m ae n !"


def test_the_changes_before_a_vowel_but_not_across_a_pause() -> None:
    assert LEXICON.units("The old man.")[1:3] == ["dh", "iy"]  # type: ignore[index]
    assert LEXICON.units("The man.")[1:3] == ["dh", "ax"]  # type: ignore[index]
    assert LEXICON.units("The, old man.")[1:3] == ["dh", "ax"]  # type: ignore[index]


def test_unknown_words_and_no_words_have_no_units() -> None:
    assert LEXICON.units("The zebra saw.") is None
    assert LEXICON.units("?!") is None


@pytest.mark.parametrize("name", ["lexicon.json", "lexicon.txt.gz"])
def test_a_lexicon_is_read_as_it_was_saved(name: str, tmp_path: Path) -> None:
    LEXICON.save(tmp_path / name)
    assert Lexicon.load(tmp_path / name).entries == LEXICON.entries
    whole = (tmp_path / name).read_bytes()
    LEXICON.save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == whole
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VoicegraftError, match="cannot read the lexicon"):
        Lexicon.load(tmp_path / name)


def test_the_pronunciations_of_known_words() -> None:
    assert LEXICON.pronunciations("The zebra saw a cat.") == {
        0: ("dh", "ax"), 2: ("s", "ao"), 3: ("ey",), 4: ("k", "ae", "t")
    }  # fmt: skip
    letters = Lexicon({"u": ("y", "uw"), "s": ("eh", "s"), "us": ("ah", "s"), "a": ("ax",)})
    assert letters.pronunciations("US us a USA") == {
        0: ("y", "uw", "eh", "s"), 1: ("ah", "s"), 2: ("ax",), 3: ("y", "uw", "eh", "s", "ey")
    }  # fmt: skip
    assert letters.pronunciations("UN") == {}


def test_words_are_placed_by_hand() -> None:
    segments = [("pau", 0.2), ("dh", 0.3), ("iy", 0.4), ("ow", 0.5), ("l", 0.6), ("d", 0.7), ("pau", 0.9)]
    segments += [("m", 1.0), ("ae", 1.1), ("n", 1.2), ("pau", 1.5)]
    units, ends = place_words("The old, man", LEXICON, segments)  # type: ignore[misc]
    assert units == (START, "dh", "iy", "|", "ow", "l", "d", ",", "m", "ae", "n", ".")
    assert ends == (0.2, 0.3, 0.4, 0.4, 0.5, 0.6, 0.7, 0.9, 1.0, 1.1, 1.2, 1.5)


def test_words_that_sound_otherwise_in_context_are_still_placed() -> None:
    # "a" is ax here and "saw" has lost nothing; a phone too many goes to the word it stands in.
    segments = [(p, 0.1 * (i + 1)) for i, p in enumerate(["m", "ae", "ae", "n", "s", "ao", "ax", "k", "ae", "t"])]
    units, ends = place_words("Man saw a cat.", LEXICON, segments)  # type: ignore[misc]
    assert units == (START, *["m", "ae", "ae", "n", "|", "s", "ao", "|", "ax", "|", "k", "ae", "t", "."])
    assert ends[0] == 0.0 and ends[-1] == pytest.approx(1.0)
    assert list(ends) == sorted(ends)


@pytest.mark.parametrize("spoken", ["", "k ae t", "z uh z uh z uh z uh"])
def test_other_words_are_not_placed(spoken: str) -> None:
    assert place_words("The old man.", LEXICON, [(p, 0.1 * i) for i, p in enumerate(spoken.split())]) is None


def test_unknown_words_are_not_placed() -> None:
    assert place_words("The zebra.", LEXICON, [("dh", 0.1), ("ax", 0.2)]) is None


def test_a_word_is_spelt_as_it_is_mostly_heard() -> None:
    heard = [
        ("A cat.", (START, "ax", "|", "k", "ae", "t", ".")),
        ("A man!", (START, "ax", "|", "m", "ae", "n", "!")),
        ("A.", (START, "ey", ".")),
    ]
    refined = refine_with_context(LEXICON, heard)
    assert refined.entries["a"] == ("ax",)
    assert refined.entries["cat"] == ("k", "ae", "t")
    assert refined.entries["old"] == LEXICON.entries["old"]  # never heard
    assert refined.entries.keys() == LEXICON.entries.keys()


@pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite")
def test_flite_spells_words() -> None:
    lexicon = flite_lexicon(["cat", "the", "mr", "strengths", "etc", "owl"], batch=4)
    assert lexicon.entries["cat"] == ("k", "ae", "t")
    assert all(set(phones) <= set(PHONES) for phones in lexicon.entries.values())
    assert {"the", "strengths", "owl"} <= lexicon.entries.keys()


def test_a_missing_flite_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(VoicegraftError, match="apt-get install flite"):
        flite.flite("hello", "kal", [])
