"""Listening, with a recogniser that says what it is told to, a tiny text LLM, and the speech of docs/hello.wav."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from tests.ears import write_listening
from tests.whispers import write_whisper
from voicegraft.audio.io import read_audio, write_audio
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message, Waveform
from voicegraft.encoders.listening import Ears, Features
from voicegraft.encoders.recognizer import LONGEST_SEC, RATE, Words, speech_stretches
from voicegraft.fusion.backbone import load_backbone
from voicegraft.fusion.listening import Mode
from voicegraft.fusion.soft_transcript import write_soft_pack
from voicegraft.fusion.text_lm import TextLM
from voicegraft.inference.arriving import Arriving
from voicegraft.inference.listener import Answer, Listener
from voicegraft.inference.writer import Writer, WritingOptions

pytest.importorskip("faster_whisper")

HELLO = read_audio(Path(__file__).parents[2] / "docs" / "hello.wav", RATE).samples
BRIEF = HELLO[:RATE]
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
    return Listener("cascade", lambda: Writer(TextLM.load(backbone)), lambda: Says(*words))  # type: ignore[arg-type, return-value]


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


def hum(sec: float) -> np.ndarray:
    time = np.arange(round(sec * RATE)) / RATE
    return np.sum([0.01 * np.sin(2 * np.pi * 50 * k * time) / k for k in range(1, 8)], axis=0).astype(np.float32)


@pytest.mark.parametrize("sound", [silence(2), noise(2), noise(5, 1e-4), hum(6), silence(0.05), silence(0)], ids=len)
def test_where_nobody_speaks_nothing_is_heard_and_nothing_is_asked(backbone: Path, sound: np.ndarray) -> None:
    hears = listener(backbone)  # its recogniser would fail
    for task in (None, "answer"):
        answer = hears.listen(Waveform(sound, RATE), task)
        assert list(answer) == [] and answer.text == "" and answer.segments == []
        assert answer.warnings == [f"no speech was found in {len(sound) / RATE:.3g} s of sound"]
    assert "writer" not in vars(hears)  # the LLM was not even loaded
    assert hears.message(Waveform(sound, RATE))[0] is None


def test_marks_without_words_are_no_speech(backbone: Path) -> None:
    answer = listener(backbone, " . ").listen(Waveform(HELLO, RATE), "answer")
    assert list(answer) == [] and answer.segments == [] and "no speech" in answer.warnings[0]


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
    assert message is not None and (message.role, message.text) == ("user", asked)
    assert report.segments == answer.segments


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
        list(Listener.load().listen(Waveform(HELLO, RATE)))
    with pytest.raises(VoicegraftError, match="voicegraft parts get smollm2"):
        _ = Listener.load().writer


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone, a listening pack for it, and one for another."""
    folder = tmp_path_factory.mktemp("hears")
    tiny.write_backbone(folder / "backbone")
    write_listening(folder / "listening", load_backbone(folder / "backbone")[0])
    return folder


def _stretches(sound: np.ndarray) -> list[Waveform]:
    return [Waveform(sound[begin:end], RATE) for begin, end in speech_stretches(sound)]


@pytest.mark.parametrize("mode", ["pure", "beside"])
def test_a_pack_hears_the_stretches_that_have_speech(work: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    hears = Listener.load(work / "listening", mode, work / "backbone")
    says = Says("Who?", "You?")
    monkeypatch.setattr(hears, "_open_recognizer", lambda: says)
    sound = np.concatenate([noise(1, 1e-4), BRIEF, silence(3), BRIEF])
    answer = hears.listen(Waveform(sound, RATE), "Say this:", options=SHORT)
    text = "".join(answer)
    cut = _stretches(sound)
    assert len(cut) == 2 and len(answer.segments) == 2
    words = ["\nWho? You?"] if mode == "beside" else []
    lm = TextLM.load(work / "backbone", listening=work / "listening")
    asked = Message.user("Say this:\n", *cut, *words)
    assert text == "".join(Writer(lm).start(asked, SHORT))
    assert len(says.heard) == (2 if mode == "beside" else 0)
    wanted = ["Who?", "You?"] if mode == "beside" else ["", ""]
    assert [segment.text for segment in answer.segments] == wanted and answer.warnings == answer.report.writing.warnings  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["pure", "cascade"])
def test_sound_that_arrives_is_answered_as_the_whole(work: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    hears = Listener.load(work / "listening", mode, work / "backbone")
    monkeypatch.setattr(hears, "_open_recognizer", lambda: Says("Who?", "Who?"))

    def answer(sound: np.ndarray) -> Answer:
        arriving = Arriving(hears, "Say this:", RATE)
        for block in np.array_split(sound, 7):
            arriving.push(block)
        return arriving.finish(SHORT)

    spoken = answer(BRIEF)
    asked = Message.user("Say this:\n", Waveform(BRIEF, RATE) if mode == "pure" else "Who?")
    assert "".join(spoken) == "".join(hears.writer.start(asked, SHORT)) and len(spoken.segments) == 1
    assert spoken.report.first_text_sec > 0 and spoken.report.writing is not None
    nothing = answer(silence(1))
    assert not list(nothing) and nothing.warnings == ["no speech was found in 1 s of sound"]


def test_in_pure_mode_the_connector_reads_or_the_llm_repeats(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hears = Listener.load(work / "listening", "pure", work / "backbone")
    # The connector of this pack cannot tell what it reads.
    repeated = hears.listen(Waveform(BRIEF, RATE), options=SHORT)
    asked = Message.user("Repeat the following sentence exactly.\n", *_stretches(BRIEF))
    assert "".join(repeated) == "".join(hears.writer.start(asked, SHORT))
    tokens = tiny.byte_tokenizer()("we go")["input_ids"]
    connector = hears.writer.lm.hearing.connector  # type: ignore[union-attr]
    monkeypatch.setattr(connector, "READS", True)
    monkeypatch.setattr(connector, "read", lambda frames, lengths: [tokens])
    answer = hears.listen(Waveform(np.concatenate([BRIEF, silence(3), BRIEF]), RATE))
    assert list(answer) == ["we go", "\nwe go"]


def test_a_soft_transcript_needs_no_pack(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recogniser = write_whisper(tmp_path / "whisper", seconds=4)
    write = Ears.write
    monkeypatch.setattr(Ears, "write", _believed(write, True))  # it says letters at random
    assert Listener.load("soft").mode == "pure" and Listener.load(None, "beside").mode == "beside"
    hears = Listener.load(None, "pure", work / "backbone", encoder=recogniser)
    hearing = hears.writer.lm.hearing
    assert hearing is not None
    (stretch,) = _stretches(BRIEF)
    words = hearing.ears([torch.from_numpy(stretch.samples)])[0].transcript
    assert words and "".join(hears.listen(Waveform(BRIEF, RATE), options=SHORT)) == words
    said = "".join(hears.listen(Waveform(BRIEF, RATE), "Say this:", options=SHORT))
    backbone, tokenizer = load_backbone(work / "backbone")
    write_soft_pack(tmp_path / "pack", backbone, recogniser)
    packed = Listener.load(tmp_path / "pack", backbone=work / "backbone", encoder=recogniser)
    assert packed.mode == "pure" and "".join(packed.listen(Waveform(BRIEF, RATE), "Say this:", options=SHORT)) == said
    bare = TextLM.load(work / "backbone")
    ids = torch.tensor([tokenizer("What?")["input_ids"]])
    assert torch.equal(hears.writer.lm.text_logits(ids), bare.text_logits(ids))
    with pytest.raises(VoicegraftError, match="a soft transcript hears English, got the language 'de'"):
        list(hears.listen(Waveform(BRIEF, RATE), language="de"))
    monkeypatch.setattr(Ears, "write", _believed(write, False))
    doubted = hears.listen(Waveform(BRIEF, RATE), "answer", options=SHORT)
    assert not list(doubted) and f"it may be: {words}" in doubted.warnings[0]
    arriving = Arriving(hears, "answer", RATE)
    arriving.push(BRIEF)
    doubted = arriving.finish(SHORT)
    assert not list(doubted) and "not understood" in doubted.warnings[0]
    with pytest.raises(VoicegraftError, match="begin another"):
        arriving.push(BRIEF)
    with pytest.raises(VoicegraftError, match="expected mono float32"):
        Arriving(hears, "answer", RATE).push(BRIEF[None])
    with pytest.raises(VoicegraftError, match="a rate above 0 Hz"):
        Arriving(hears, "answer", 0)
    with pytest.raises(VoicegraftError, match="no numbers"):
        hears.listen(Waveform(np.full(RATE, np.nan, np.float32), RATE))


def _believed(write: Callable[..., Features], sure: bool) -> Callable[..., Features]:
    return lambda self, piece, draft=(): replace(write(self, piece, draft), sure=sure)


def test_a_voice_pack_that_hears_is_a_listening_pack_too(work: Path, pack_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(pack_folder, tmp_path / "pack")
    write_listening(tmp_path / "pack" / "listening", load_backbone(pack_folder / "backbone")[0])
    hears = Listener.load(tmp_path / "pack", "pure")
    assert "".join(hears.listen(Waveform(BRIEF, RATE), "answer", options=SHORT))
    with pytest.raises(VoicegraftError, match=r"found no listening\.json"):
        Listener.load(pack_folder)


def test_a_mode_or_a_backbone_that_does_not_fit_is_refused(work: Path, tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match="expected a mode of pure, beside, cascade, got 'deaf'"):
        Listener.load(work / "listening", "deaf", work / "backbone")  # type: ignore[arg-type]
    with pytest.raises(VoicegraftError, match="does not name its text LLM"):
        Listener.load(work / "listening")
    other = tiny.llama()
    torch.nn.init.normal_(other.lm_head.weight)
    other.save_pretrained(tmp_path / "other")
    tiny.byte_tokenizer().save_pretrained(tmp_path / "other")
    with pytest.raises(VoicegraftError, match="use the backbone it was trained with"):
        _ = Listener.load(work / "listening", "pure", tmp_path / "other").writer
