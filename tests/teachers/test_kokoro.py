"""Kokoro without Kokoro: its phones, its styles and mixtures, and what the graph tells of times."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tests import teaching
from voicegraft.core.errors import VoicegraftError
from voicegraft.teachers import kokoro
from voicegraft.teachers.base import Unsayable
from voicegraft.teachers.choice import open_teacher
from voicegraft.teachers.kokoro import KokoroTeacher, as_kokoro, draw_mixtures

PHONES = "hɛlO wˈɜɹld."
OWN = [voice for voice in teaching.VOICES if voice[0] in "ab"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pytest.importorskip("onnxruntime")
    teaching.write_kokoro(tmp_path / "kokoro")
    return tmp_path / "kokoro"


@pytest.fixture(autouse=True)
def _no_espeak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kokoro, "phonemes", lambda text, accent: text)


@pytest.mark.parametrize(
    ("word", "accent", "espeak", "expected"),
    [
        ("bird", "a", "bˈɜːd", "bˈɜɹd"),
        ("hurry", "a", "hˈɜːɹi", "hˈɜɹi"),
        ("near", "a", "nˈɪəɹ", "nˈiəɹ"),
        ("see", "a", "sˈiː", "sˈi"),
        ("butter", "a", "bˈʌɾɚ", "bˈʌTəɹ"),
        ("about", "a", "ɐbˈWt", "əbˈWt"),
        ("button", "a", "bˈʌʔn", "bˈʌtn"),
        ("kitten", "a", "kˈɪʔn\u0329", "kˈɪtᵊn"),
        ("loch", "a", "lˈɑːx", "lˈɑk"),
        ("Llanelli", "a", "ɬənˈɛli", "lənˈɛli"),
        ("bird", "b", "bˈɜːd", "bˈɜːd"),
        ("about", "b", "ɐbˈWt", "əbˈWt"),
        ("near", "b", "nˈɪə", "nˈɪə"),
        ("loch", "b", "lˈɒx", "lˈɒk"),
        ("red", "b", "rˈɛd", "ɹˈɛd"),
    ],
)
def test_espeaks_phones_become_those_that_the_voices_have_learnt(
    word: str, accent: str, espeak: str, expected: str
) -> None:
    assert as_kokoro(espeak, accent) == expected


def test_english_voices_and_mixtures_are_offered(folder: Path) -> None:
    teacher = KokoroTeacher(folder, {"mix-0001": {"af_ann": 0.5, "am_tom": 0.5}})
    assert teacher.voices == (*sorted(OWN), "mix-0001")


def test_the_model_gets_phones_style_of_their_number_and_speed(folder: Path) -> None:
    said = KokoroTeacher(folder).say(PHONES, "bf_kate", 1.25, 0)
    tokens = [0, *(teaching.VOCABULARY[phone] for phone in PHONES), 0]
    style = np.load(folder / "voices" / "bf_kate.npy")[len(PHONES) - 1]
    assert np.allclose(said.samples, np.array(tokens) * 1.25 + style.mean(), atol=1e-5)


def test_durations_inside_of_the_graph_become_times(folder: Path) -> None:
    said = KokoroTeacher(folder).say(PHONES, "af_ann", 1.0, 0)
    numbers = np.array([0, *(teaching.VOCABULARY[phone] for phone in PHONES), 0])
    seconds = len(said.samples) / 24_000
    assert said.phones == ("^", *PHONES, "$") and not said.units
    assert said.phone_ends_sec == pytest.approx(np.cumsum(numbers) / numbers.sum() * seconds, abs=6e-4)


def test_a_graph_that_does_not_tell_durations_speaks_without_times(folder: Path) -> None:
    told = KokoroTeacher(folder).say(PHONES, "af_ann", 1.0, 0)
    (folder / "model.onnx").write_bytes(teaching._model("/other/name"))
    said = KokoroTeacher(folder).say(PHONES, "af_ann", 1.0, 0)
    assert np.array_equal(said.samples, told.samples) and not said.phones and not said.phone_ends_sec


def test_a_mixture_is_the_weighted_mean_of_its_styles(folder: Path) -> None:
    mixture = {"af_ann": 0.25, "am_tom": 0.75}
    teacher = KokoroTeacher(folder, {"mix": mixture})
    ann, tom, mixed = (teacher.say(PHONES, voice, 1.0, 0).samples for voice in ("af_ann", "am_tom", "mix"))
    assert np.allclose(mixed, 0.25 * ann + 0.75 * tom, atol=1e-5)
    again = KokoroTeacher(folder, {"mix": mixture}).say(PHONES, "mix", 1.0, 7).samples
    assert np.array_equal(mixed, again)


@pytest.mark.parametrize("mixture", [{"af_ann": 0.5, "bm_john": 0.5}, {"zf_xiao": 1.0}, {}])
def test_mixtures_of_other_voices_or_two_accents_are_refused(folder: Path, mixture: dict[str, float]) -> None:
    with pytest.raises(VoicegraftError, match=r"the mixture mix is of .* expected voices of one accent"):
        KokoroTeacher(folder, {"mix": mixture})


def test_mixtures_follow_from_seed_and_number() -> None:
    many = draw_mixtures(OWN, 40, seed=3)
    assert list(many)[:2] == ["mix-0001", "mix-0002"] and draw_mixtures(OWN, 5, seed=3) == dict(list(many.items())[:5])
    assert draw_mixtures(OWN, 5, seed=4) != draw_mixtures(OWN, 5, seed=3)
    assert {voice[0] for mixture in many.values() for voice in mixture} == {"a", "b"}
    for mixture in many.values():
        assert len({voice[0] for voice in mixture}) == 1 and 2 <= len(mixture) <= 3  # there are two British ones
        assert sum(mixture.values()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("text", ["ʘʘʘʘʘʘ", "həl", "hɛlO " * 80])
def test_what_cannot_be_said_is_told(folder: Path, text: str) -> None:
    with pytest.raises(Unsayable, match=r"no phone ʘ|3 phones|400 phones"):
        KokoroTeacher(folder).say(text, "af_ann", 1.0, 0)


def test_a_missing_or_damaged_kokoro_says_how_to_get_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEGRAFT_PARTS", str(tmp_path / "parts"))
    with pytest.raises(VoicegraftError, match=r"lacks model.onnx and vocab.json; run: voicegraft parts get kokoro"):
        KokoroTeacher(tmp_path)
    with pytest.raises(VoicegraftError, match="voicegraft parts get kokoro"):
        open_teacher("kokoro", None, {})
    for name, content in (("vocab.json", b"[]"), ("voices/af_ann.npy", b"x"), ("model.onnx", b"\x0f" * 50)):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        kokoro._read_styles.cache_clear()
        with pytest.raises(VoicegraftError, match=rf"{Path(name).name}.*voicegraft parts get kokoro"):
            KokoroTeacher(folder).say(PHONES, "af_ann", 1.0, 0)
        (folder / name).write_bytes(whole)


def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(VoicegraftError, match=r"pip install voicegraft\[teacher\]"):
        KokoroTeacher(folder).say(PHONES, "af_ann", 1.0, 0)


def test_only_kokoro_can_be_mixed() -> None:
    with pytest.raises(VoicegraftError, match="mixed of Kokoro only"):
        open_teacher("flite", None, {"mix": {"rms": 1.0}})
