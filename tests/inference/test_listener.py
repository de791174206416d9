"""Listening, with a recogniser that says what it is told to, a tiny text LLM, and the speech of docs/hello.wav."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from voicegraft.audio.io import read_audio, write_audio
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message, Waveform
from voicegraft.encoders.recognizer import LONGEST_SEC, RATE, Words, speech_stretches
from voicegraft.fusion.text_lm import TextLM
from voicegraft.inference.listener import Listener
from voicegraft.inference.writer import Writer, WritingOptions

pytest.importorskip("faster_whisper")

HELLO = read_audio(Path(__file__).parents[2] / "docs" / "hello.wav", RATE).samples
SHORT = WritingOptions(max_tokens=8)


class Says:
    """Stands in for Whisper."""

    def __init__(self, *words: Words | str):
        self.words: Iterator[Words] = (Words(w) if isinstance(w, str) else w for w in words)
        self.heard: list[np.ndarray] = []

    def recognize(self, samples: np.ndarray, language: str = "en") -> Words:
        self.heard.append(samples)
        return next(self.words)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone")
    tiny.write_backbone(folder)
    return folder


def silence(sec: float) -> np.ndarray:
    return np.zeros(round(sec * RATE), np.float32)


def noise(sec: float, level: float = 0.1) -> np.ndarray:
    return np.random.default_rng(0).normal(0, level, round(sec * RATE)).astype(np.float32)


def listener(backbone: Path, *words: Words | str) -> Listener:
    return Listener(Says(*words), backbone)  # type: ignore[arg-type]


def test_all_speech_is_in_a_stretch_and_no_stretch_is_too_long() -> None:
    gap = silence(0.8)
    pieces = [noise(3, 1e-3), *[piece for _ in range(12) for piece in (HELLO, gap)], noise(4, 1e-3), HELLO]
    sound = np.concatenate(pieces)
    begins = np.cumsum([0, *map(len, pieces)])[:-1]
    stretches = list(speech_stretches(sound))
    assert len(stretches) > 2 and all(0 < end - begin <= LONGEST_SEC * RATE for begin, end in stretches)
    assert all(a[1] <= b[0] for a, b in pairwise(stretches))
    inside = np.zeros(len(sound), bool)
    for begin, end in stretches:
        inside[begin:end] = True
    for begin, piece in zip(begins, pieces, strict=True):
        if piece is HELLO:  # but for the silence at its ends
            loud = np.flatnonzero(np.abs(HELLO) > 0.1 * np.abs(HELLO).max())
            assert inside[begin + loud].all()
    assert not inside[: 2 * RATE].any()


@pytest.mark.parametrize("level", [1.0, 0.01])
def test_speech_is_found_at_any_level(level: float) -> None:
    assert len(list(speech_stretches(level * HELLO))) == 1


@pytest.mark.parametrize("sound", [silence(2), noise(2), noise(5, 1e-4), silence(0.05), silence(0)], ids=len)
def test_where_nobody_speaks_nothing_is_heard_and_nothing_is_asked(backbone: Path, sound: np.ndarray) -> None:
    hears = listener(backbone)  # its recogniser would fail
    for task in (None, "answer"):
        answer = hears.listen(Waveform(sound, RATE), task)
        assert list(answer) == [] and answer.text == "" and answer.segments == []
        assert answer.warnings == [f"no speech was found in {len(sound) / RATE:.1f} s of sound"]
    assert "writer" not in vars(hears)  # the LLM was not even loaded
    assert hears.message(Waveform(sound, RATE))[0] is None


def test_a_transcript_comes_stretch_by_stretch_with_its_times(backbone: Path) -> None:
    sound = np.concatenate([HELLO, silence(4), HELLO, silence(4), HELLO])
    hears = listener(backbone, "Hello there.", Words("Hm huh hm.", sure=False), "Hello again.")
    answer = hears.listen(Waveform(sound, RATE))
    assert next(answer) == "Hello there." and len(answer.segments) == 1
    assert list(answer) == ["\nHello again."] and answer.text == "Hello there.\nHello again."
    first, second, third = answer.segments
    second_at, third_at = (len(HELLO) / RATE + 4), 2 * (len(HELLO) / RATE + 4)
    assert [first.begin_sec, second.begin_sec, third.begin_sec] == pytest.approx([0, second_at, third_at], abs=0.5)
    assert third.end_sec == pytest.approx(len(sound) / RATE, abs=0.5)
    assert [s.sure for s in answer.segments] == [True, False, True]
    assert len(answer.warnings) == 1 and "was not understood; it may be: Hm huh hm." in answer.warnings[0]
    assert all(len(piece) < len(HELLO) + RATE for piece in hears.recognizer.heard)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("task", "asked"),
    [
        ("answer", "Who goes home?"),
        ("Say this:", "Say this:\nWho goes home?"),
        ("Text: {audio} Who?", "Text: Who goes home? Who?"),
    ],
)
def test_the_llm_is_asked_what_a_reader_of_the_transcript_would_ask(backbone: Path, task: str, asked: str) -> None:
    answer = listener(backbone, "Who goes home?").listen(Waveform(HELLO, RATE), task, options=SHORT)
    pieces = list(answer)
    wanted = Writer(TextLM.load(backbone)).start(asked, SHORT)
    assert pieces == list(wanted) and answer.report.writing.ids == wanted.report.ids  # type: ignore[union-attr]
    assert [s.text for s in answer.segments] == ["Who goes home?"] and answer.report.first_text_sec > 0
    message, report = listener(backbone, "Who goes home?").message(Waveform(HELLO, RATE), task)
    assert message == Message.user(*message.parts) and message.text == asked and report.text == "Who goes home?"  # type: ignore[union-attr]


def test_sound_comes_in_any_form(backbone: Path, tmp_path: Path) -> None:
    path = tmp_path / "hello.wav"
    write_audio(path, read_audio(Path("docs/hello.wav"), 8000).samples, 8000)
    stereo = Waveform(HELLO, RATE)
    for audio in (path, str(path), path.read_bytes(), stereo):
        assert listener(backbone, "Hello.").listen(audio).report.duration_sec == pytest.approx(
            len(HELLO) / RATE, abs=0.01
        )
    with pytest.raises(VoicegraftError, match="found nothing"):
        listener(backbone).listen(tmp_path / "none.wav")
    for broken in (b"RIFF and no more", b""):
        with pytest.raises(VoicegraftError, match="cannot read the audio as audio"):
            listener(backbone).listen(broken)
    with pytest.raises(VoicegraftError, match="expected a task"):
        listener(backbone).listen(stereo, " ")


def test_a_missing_part_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOICEGRAFT_PARTS", str(tmp_path))
    with pytest.raises(VoicegraftError, match="voicegraft parts get whisper-base-ct2"):
        Listener.load()
    with pytest.raises(VoicegraftError, match="voicegraft parts get smollm2"):
        _ = Listener(Says()).writer  # type: ignore[arg-type]
    with pytest.raises(VoicegraftError, match="expected a mode of pure, beside, cascade, got deaf"):
        Listener.load("deaf")  # type: ignore[arg-type]
