import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.dictation import dictated
from voicegraft.cli import chat as conversation
from voicegraft.cli.chat import Chat, ChatOptions, player
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message
from voicegraft.inference.speaker import Speaker


def chat(speaker: Speaker, folder: Path, **options: object) -> Chat:
    return Chat(speaker, ChatOptions(out_dir=folder / "replies", voice="ann", **options))  # type: ignore[arg-type]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "replies").glob("*"))


def test_each_message_chooses_its_reply_and_the_choice_stays(
    speaker: Speaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = chat(speaker, tmp_path)
    with dictated(speaker.pack.lm, "We.", "Go.", "See.", "Home.", "Now.", "Owl."):
        lines = ["One?\n", "/text Two?", "\n", "Three?", "/speech Four?", "Five?", "/both", "Six?"]
        assert talk.run(lines) == 0
    out, err = capsys.readouterr()
    folder = tmp_path / "replies"
    said = [line.split(":")[0] if "of speech" in line else line for line in out.splitlines()]
    assert said == [
        *("We.", f"{folder}/reply-001.wav", "Go.", "See."),
        *(f"{folder}/reply-002.wav", f"{folder}/reply-003.wav"),
        *("replies from here on: both", "Owl.", f"{folder}/reply-004.wav"),
    ]
    assert err == "" and files(tmp_path) == [f"reply-00{n}.wav" for n in (1, 2, 3, 4)]
    samples, _ = soundfile.read(folder / "reply-002.wav", dtype="float32")
    np.testing.assert_allclose(samples, speaker.say("Home.", "ann").samples, atol=1 / 32000)
    assert talk.messages[::2] == [Message.user(f"{n}?") for n in ("One", "Two", "Three", "Four", "Five", "Six")]
    assert [message.text for message in talk.messages[1::2]] == ["We.", "Go.", "See.", "Home.", "Now.", "Owl."]


def test_the_backbone_sees_the_whole_conversation(
    speaker: Speaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    start = speaker.writer.start
    monkeypatch.setattr(
        speaker.writer, "start", lambda messages, *rest: (seen.append(messages), start(messages, *rest))[1]
    )
    with dictated(speaker.pack.lm, "We.", "Go.", "See."):
        chat(speaker, tmp_path).run(["/text One?", "/speech Two?", "/new", "Three?"])
    assert seen == [
        [Message.user("One?")],
        [Message.user("One?"), Message.assistant("We."), Message.user("Two?")],
        [Message.user("Three?")],
    ]


def test_commands(speaker: Speaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = chat(speaker, tmp_path, reply="text")
    with dictated(speaker.pack.lm, "We.", "Go."):
        assert talk.run(["One?", "/new", "/help", " /two?", "/quit", "/never"]) == 0
    out, err = capsys.readouterr()
    assert out == f"We.\nthe conversation is forgotten\n{conversation.HELP}\nGo.\n" and err == ""
    assert talk.messages == [Message.user("/two?"), Message.assistant("Go.")]
    assert not (tmp_path / "replies").exists()  # nothing was spoken


def test_a_mistake_does_not_end_the_conversation(
    speaker: Speaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = chat(speaker, tmp_path, reply="text")
    with dictated(speaker.pack.lm, "We."):
        assert talk.run(["/sing", "/quit now", "/", "a" * 2000, "One?"]) == 1
    out, err = capsys.readouterr()
    assert out == "We.\n" and talk.messages == [Message.user("One?"), Message.assistant("We.")]
    wanted = ["no command '/sing'; /help", "no command '/quit now'", "no command '/'", "too long: it has 2018 tokens"]
    assert len(err.splitlines()) == 4
    assert all(w in line and line.startswith("voicegraft: ") for w, line in zip(wanted, err.splitlines(), strict=True))


def test_history_that_outgrows_the_context_loses_its_oldest_turns_and_says_so_once(
    speaker: Speaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = chat(speaker, tmp_path, reply="text")
    message = "a" * 300  # three exchanges are more than 1024 - 256
    with dictated(speaker.pack.lm, *["We."] * 7):
        assert talk.run([message, message, "a" * 2000]) == 1
        assert "left out" not in capsys.readouterr().err  # a message that never fits is no reason to forget
        assert len(talk.messages) == 4
        talk.run([message, message, message])
        assert [said.text for said in talk.messages if said.role == "user"] == [message, message]
        out, err = capsys.readouterr()
        assert out == "We.\n" * 3 and err.count("\n") == err.count("its oldest messages are left out") == 1
        talk.run(["/new", message, message])
        assert "left out" not in capsys.readouterr().err


@pytest.mark.parametrize("reply", ["text", "speech", "both"])
def test_a_reply_without_a_word_is_shown_and_told(
    reply: str, speaker: Speaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = chat(speaker, tmp_path, reply=reply)
    with dictated(speaker.pack.lm, "...", "", "We."):
        status = talk.run(["One?", "Two?", "Three?"])
    out, err = capsys.readouterr()
    assert status == 1 and out.startswith("...\n") and "the answer is empty" in err
    assert ("nothing to say aloud" in err) == (reply != "text")
    assert files(tmp_path) == ([] if reply == "text" else ["reply-001.wav"])
    assert [message.text for message in talk.messages] == ["One?", "...", "Three?", "We."]  # an empty answer is no turn


def test_what_was_cut_is_told(speaker: Speaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = chat(speaker, tmp_path, reply="text", max_tokens=3)
    with dictated(speaker.pack.lm, "We go."):
        assert talk.run(["One?"]) == 0
    assert capsys.readouterr() == (
        "We\n",
        "voicegraft: the answer was cut after 3 tokens; allow more with max_tokens\n",
    )


def test_replies_that_are_there_are_kept(speaker: Speaker, tmp_path: Path) -> None:
    (tmp_path / "replies").mkdir()
    (tmp_path / "replies" / "reply-001.wav").write_text("mine")
    with dictated(speaker.pack.lm, "We."):
        chat(speaker, tmp_path).run(["One?"])
    assert files(tmp_path) == ["reply-001.wav", "reply-002.wav"]
    assert (tmp_path / "replies" / "reply-001.wav").read_text() == "mine"


def test_a_stopped_reply_leaves_the_conversation_as_it_was(
    speaker: Speaker, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = chat(speaker, tmp_path)

    def pressing(piece: str) -> None:
        show(piece)
        if len(pressed) == 2:
            raise KeyboardInterrupt
        pressed.append(piece)

    show, pressed = talk._show, list[str]()
    monkeypatch.setattr(talk, "_show", pressing)
    with dictated(speaker.pack.lm, "We see."):
        assert talk.run(["One?"]) == 0
    assert capsys.readouterr() == ("We s\n", "voicegraft: stopped\n")
    assert talk.messages == [] and files(tmp_path) == []


# Playing


def recorder(folder: Path, status: int = 0) -> str:
    """A command that writes down what it is given."""
    script = folder / "play it.py"
    script.write_text(
        f"import sys\nopen({str(folder / 'played')!r}, 'a').write(repr(sys.argv[1:]))\nsys.exit({status})"
    )
    return f"{sys.executable} '{script}' -q '$HOME; echo'"


def test_spoken_replies_are_played_without_a_shell(
    speaker: Speaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = chat(speaker, tmp_path, play=recorder(tmp_path))
    with dictated(speaker.pack.lm, "We.", "Go.", "..."):
        talk.run(["One?", "/text Two?", "/speech Three?"])
    assert (tmp_path / "played").read_text() == repr(["-q", "$HOME; echo", f"{tmp_path}/replies/reply-001.wav"])


def test_a_player_that_fails_is_told_and_the_reply_is_remembered(
    speaker: Speaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = chat(speaker, tmp_path, play=recorder(tmp_path, status=3))
    with dictated(speaker.pack.lm, "We."):
        assert talk.run(["One?"]) == 1
    assert "ended with status 3; the reply is in the file" in capsys.readouterr().err
    assert len(talk.messages) == 2 and files(tmp_path) == ["reply-001.wav"]


@pytest.mark.parametrize("command", ["", "no-such-player -q", "'open"])
def test_a_player_that_is_not_there_shows_at_once(command: str) -> None:
    with pytest.raises(VoicegraftError, match="play"):
        player(command)


# What cannot begin


def test_a_chat_that_cannot_work_does_not_begin(speaker: Speaker, tmp_path: Path) -> None:
    def lines() -> Iterator[str]:
        pytest.fail("it began")
        yield ""

    (tmp_path / "file").write_text("x")
    for options, message in (
        (ChatOptions(voice="eve"), "no voice 'eve'"),
        (ChatOptions(out_dir=tmp_path / "file"), "cannot write to"),
        (ChatOptions(reply="text", max_tokens=2000), "expected max_tokens from 1 to 1023"),
    ):
        with pytest.raises(VoicegraftError, match=message):
            Chat(speaker, options).run(lines())
