import io
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.inference.test_listener import HELLO, backbone, listener, silence
from voicegraft import cli
from voicegraft.audio.io import write_audio
from voicegraft.cli.chat import Chat, ChatOptions
from voicegraft.encoders.recognizer import RATE, Words
from voicegraft.inference.listener import Listener
from voicegraft.inference.speaker import Speaker
from voicegraft.inference.writer import WritingOptions

__all__ = ["backbone"]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, backbone: Path) -> list[Words | str]:
    """What the recogniser will say, one after the other."""
    words: list[Words | str] = []
    monkeypatch.setattr(Listener, "load", staticmethod(lambda *_, **__: listener(backbone, *words)))
    return words


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    write_audio(tmp_path / "hello.wav", HELLO, RATE)
    return tmp_path / "hello.wav"


@pytest.fixture
def quiet(tmp_path: Path) -> Path:
    write_audio(tmp_path / "quiet.wav", silence(1.0), RATE)
    return tmp_path / "quiet.wav"


def run(*arguments: object) -> int:
    return cli.main(["listen", *map(str, arguments)])


def test_a_transcript_is_plain_text(said: list[Words | str], hello: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said += ["Hello there.", "Hello again."]
    assert run(hello) == 0 and capsys.readouterr() == ("Hello there.\n", "")
    said[:] = ["Hello there.", "Hello again."]
    assert run(hello, "--times") == 0
    begin, end, *words = capsys.readouterr().out.split()
    assert 0 <= float(begin) < float(end) and words == ["Hello", "there."]


def test_silence_and_guesses_are_told_and_are_no_success(
    said: list[Words | str], hello: Path, quiet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(quiet) == 1
    assert capsys.readouterr() == ("", f"voicegraft: {quiet}: no speech was found in 1 s of sound\n")
    said[:] = [Words("Hm.", sure=False)]
    assert run(hello, "--task", "answer") == 1
    out, err = capsys.readouterr()
    assert out == "" and "not understood; it may be: Hm." in err and err.count("\n") == 1


def test_several_recordings_are_heard_though_one_is_broken(
    said: list[Words | str], hello: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.flac").write_bytes(b"fLaC and no more")
    said[:] = ["One.", "Two."]
    assert run(hello, tmp_path / "broken.flac", hello) == 2
    out, err = capsys.readouterr()
    assert out == f"{hello}:\nOne.\n{hello}:\nTwo.\n"
    assert err.startswith(f"voicegraft: {tmp_path / 'broken.flac'}: cannot read ") and err.count("\n") == 1


def test_a_task_is_answered(
    said: list[Words | str], hello: Path, backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said[:] = ["We go home."]
    cut = run(hello, "--task", "Say this:", "--max-tokens", 8)
    out, err = capsys.readouterr()
    answer = listener(backbone, "We go home.").listen(hello, "Say this:")
    assert "".join(answer).startswith(out.rstrip("\n")) and cut == int("was cut" in err)


def test_a_spoken_question_is_answered_aloud_by_the_llm_that_heard_it(
    said: list[Words | str],
    hello: Path,
    quiet: Path,
    pack_folder: Path,
    backbone: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said[:] = ["Who goes?"]
    out = tmp_path / "answer.wav"
    common = ("--pack", pack_folder, "--out", out, "--max-tokens", 12)
    assert cli.main(["ask", "--audio", *map(str, (hello, *common))]) == 0
    shown, told = capsys.readouterr()
    wanted = "".join(listener(backbone).writer.start("Who goes?", WritingOptions(max_tokens=12)))
    assert shown.startswith(f"{wanted}\n{out}: ") and "hears (cascade) and answers" in told
    assert out.is_file()
    assert cli.main(["ask", "Say this:", "--audio", *map(str, (quiet, *common))]) == 2
    assert "no speech was found" in capsys.readouterr().err


def test_a_conversation_takes_spoken_turns(
    said: list[Words | str], hello: Path, speaker: Speaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said[:] = ["Who goes?"]
    writer = speaker.writer
    try:
        talk = Chat(speaker, ChatOptions(out_dir=tmp_path / "replies", voice="ann", reply="text", max_tokens=8))
        talk.run([f"/hear {hello}", "/hear nothing.wav", "/hear", "We see."])
        assert speaker.writer is talk.listener.writer is not writer  # type: ignore[union-attr]
    finally:
        speaker.writer = writer
    out, err = capsys.readouterr()
    assert out.startswith("heard: Who goes?\n") and [m.text for m in talk.messages[::2]] == ["Who goes?", "We see."]
    assert "found nothing" in err and "no command '/hear'" in err


def test_sound_comes_through_standard_input(
    said: list[Words | str], hello: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said[:] = ["Hello."]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(hello.read_bytes())))
    assert run("-") == 0 and capsys.readouterr() == ("Hello.\n", "")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert run("-") == 2 and "got nothing" in capsys.readouterr().err


class Microphone:
    """Stands in for sounddevice: what is said while somebody waits."""

    PortAudioError = OSError
    heard: np.ndarray = HELLO

    def __init__(self, rate: int, channels: int, dtype: str, callback: Any):
        assert (rate, channels, dtype) == (RATE, 1, "float32")
        self.callback = callback

    def __enter__(self) -> None:
        for block in np.array_split(self.heard, 7) if len(self.heard) else ():
            self.callback(block[:, None], len(block), None, None)

    def __exit__(self, *_: object) -> None:
        return None


def test_the_microphone_is_heard_until_enter(
    said: list[Words | str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said[:] = ["Hello."]
    device = types.SimpleNamespace(InputStream=Microphone, PortAudioError=OSError)
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert run("--microphone") == 0
    out, err = capsys.readouterr()
    assert out == "Hello.\n" and "press Enter" in err
    monkeypatch.setattr(Microphone, "heard", HELLO[:0])
    assert run("--microphone") == 2 and "gave no sound" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert run("--microphone") == 2 and "pip install voicegraft[microphone]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "expected recordings"),
        (("a.wav", "--microphone"), "expected recordings"),
        (("a.wav", "--times", "--task", "answer"), "--times goes with a transcript"),
        (("a.wav",), "expected an audio file at a.wav, found nothing"),
        (("a.wav", "--temperature", "-1"), "expected a --temperature of 0 or more"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    said: list[Words | str], arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and told in err and err.count("\n") == 1
