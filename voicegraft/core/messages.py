"""A conversation: messages of text and audio, one type from the chat template to the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from voicegraft.core.errors import VoicegraftError

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, eq=False)
class Waveform:
    """Mono audio.

    Raises:
        ValueError: the samples are not a float32 vector, or the rate is not positive.
    """

    samples: npt.NDArray[np.float32]  # [T], in [-1, 1]
    sample_rate: int  # Hz

    def __post_init__(self) -> None:
        if self.samples.ndim != 1 or self.samples.dtype != np.float32:
            raise ValueError(f"expected float32 samples [T], got {self.samples.dtype} {self.samples.shape}")
        if self.sample_rate <= 0:
            raise ValueError(f"expected a positive sample rate in Hz, got {self.sample_rate}")

    @property
    def duration_sec(self) -> float:
        return len(self.samples) / self.sample_rate


Part: TypeAlias = str | Waveform


@dataclass(frozen=True)
class Message:
    """What one side says: ``Message.user("Is it late?")``, or several parts, in the order in which they are read.

    Raises:
        VoicegraftError: an unknown role, no part, or a part that is neither text nor a ``Waveform``.
    """

    role: Role
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise VoicegraftError(f"expected a message of the role {', '.join(get_args(Role))}; got {self.role!r}")
        if not self.parts or not isinstance(self.parts, tuple):
            raise VoicegraftError(
                f"expected a tuple of at least one part, got {self.parts!r}; use Message.{self.role}()"
            )
        if odd := [part for part in self.parts if not isinstance(part, str | Waveform)]:
            raise VoicegraftError(f"expected parts that are str or Waveform, got {type(odd[0]).__name__}")

    @classmethod
    def system(cls, *parts: Part) -> Message:
        return cls("system", parts)

    @classmethod
    def user(cls, *parts: Part) -> Message:
        return cls("user", parts)

    @classmethod
    def assistant(cls, *parts: Part) -> Message:
        return cls("assistant", parts)

    @property
    def waveforms(self) -> tuple[Waveform, ...]:
        """The parts that are audio, in their order."""
        return tuple(part for part in self.parts if isinstance(part, Waveform))

    @property
    def text(self) -> str:
        """The parts of a message that is text alone, joined as they are.

        Raises:
            VoicegraftError: a part is audio.
        """
        if self.waveforms:
            raise VoicegraftError(
                "expected text, got a message with audio: this model has no listening expert; send its words"
            )
        return self.marked("")

    def marked(self, marker: str) -> str:
        """The parts joined as they are, with a marker in the place of each audio."""
        return "".join(part if isinstance(part, str) else marker for part in self.parts)


Question: TypeAlias = str | Message | Sequence[Message]  # text, a message, or a conversation that ends with the user's


def conversation(question: Question) -> list[Message]:
    """What was asked, as messages.

    Raises:
        VoicegraftError: nothing was asked: it is empty, blank, or does not end with a message of the user.
    """
    if isinstance(question, str):
        question = Message.user(question)
    messages = [question] if isinstance(question, Message) else list(question)
    if odd := [message for message in messages if not isinstance(message, Message)]:
        raise VoicegraftError(f"expected messages, such as Message.user('Hello'), got {odd[0]!r:.80}")
    if not messages:
        raise VoicegraftError("nothing was asked: expected a question, got an empty conversation")
    if messages[-1].role != "user":
        raise VoicegraftError(
            f"nothing was asked: expected a last message of the user, got one of the {messages[-1].role}"
        )
    if not any(isinstance(part, Waveform) or part.strip() for part in messages[-1].parts):
        raise VoicegraftError("nothing was asked: expected a question with at least one character")
    return messages
