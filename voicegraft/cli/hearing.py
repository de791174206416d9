"""What the verbs that listen share: their options, loading, and where sound comes from."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from voicegraft.core.errors import VoicegraftError

if TYPE_CHECKING:
    from voicegraft.core.messages import Waveform
    from voicegraft.inference.listener import Listener


@dataclass(frozen=True)
class HearingOptions:
    mode: Literal["cascade"] | None = None  # how the text LLM hears: cascade gives it the transcript
    recognizer: str = "part:whisper-base-ct2"  # a Whisper for CTranslate2, a folder or a part
    llm: str = "part:smollm2"  # the text LLM that answers speech: a folder, a part or hub:NAME
    language: str = "en"  # of the speech; auto lets the recogniser tell

    @property
    def spoken_language(self) -> str:
        return "" if self.language == "auto" else self.language

    def listener(self, device: str = "cpu") -> Listener:
        from transformers.utils.logging import disable_progress_bar

        from voicegraft.inference.listener import Listener

        disable_progress_bar()  # standard error is for what went wrong
        return Listener.load(self.mode, self.llm, self.recognizer, device)


def sound_of(name: str) -> Path | bytes:
    """The file of that name, or what comes through standard input for ``-``.

    Raises:
        VoicegraftError: standard input is a terminal, closed or empty.
    """
    if name != "-":
        return Path(name)
    if sys.stdin is None or sys.stdin.isatty():
        raise VoicegraftError("expected a recording on standard input, such as: arecord -d 5 | voicegraft listen -")
    data = sys.stdin.buffer.read()
    if not data:
        raise VoicegraftError("expected a recording on standard input, got nothing")
    return data


def from_microphone() -> Waveform:
    """What is said until Enter is pressed; errors as of ``record``."""
    from voicegraft.audio.microphone import record
    from voicegraft.encoders.recognizer import RATE

    def wait() -> None:
        print("voicegraft: recording; speak, then press Enter", file=sys.stderr, flush=True)
        sys.stdin.readline()

    return record(RATE, wait)
