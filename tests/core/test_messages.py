"""A message is a role and parts; what is none is refused where it is made."""

import numpy as np
import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message, Waveform, conversation

CLIP = Waveform(np.zeros(8, np.float32), 8000)


def test_parts_keep_their_order_and_text_is_joined() -> None:
    assert Message.user("a", CLIP, "b").parts == ("a", CLIP, "b")
    assert Message.assistant("It is", " me.").text == "It is me."
    assert Message.system("x") == Message("system", ("x",)) != Message.user("x")


def test_audio_is_not_taken_for_text() -> None:
    with pytest.raises(VoicegraftError, match="no listening expert"):
        _ = Message.user("What is this?", CLIP).text


@pytest.mark.parametrize(
    "role, parts, message",
    [
        ("tool", ("x",), "expected a message of the role system, user, assistant; got 'tool'"),
        ("user", (), r"expected a tuple of at least one part, got \(\); use Message.user"),
        ("user", "x", "expected a tuple of at least one part, got 'x'; use Message.user"),
        ("user", ("x", 3), "expected parts that are str or Waveform, got int"),
    ],
)
def test_what_is_no_message_is_refused(role: str, parts: object, message: str) -> None:
    with pytest.raises(VoicegraftError, match=message):
        Message(role, parts)  # type: ignore[arg-type]


def test_a_question_is_a_conversation_of_one() -> None:
    asked = Message.user("Why?")
    assert conversation("Why?") == conversation(asked) == conversation((asked,)) == [asked]
    said = [Message.system("Be kind."), asked, Message.assistant("So."), Message.user(CLIP)]
    assert conversation(said) == said  # sound alone is a question, too


@pytest.mark.parametrize("asked", ["", " \n", [], [Message.assistant("x")], [Message.user(" ", "")]])
def test_a_conversation_that_asks_nothing_is_refused(asked: object) -> None:
    with pytest.raises(VoicegraftError, match="nothing was asked"):
        conversation(asked)  # type: ignore[arg-type]
