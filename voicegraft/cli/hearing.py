"""What the verbs that listen share: their options, loading, and where sound comes from."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from voicegraft.cli.speaking import complain, place
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.parts import JUDGE, PART

if TYPE_CHECKING:
    from voicegraft.core.messages import Message, Waveform
    from voicegraft.inference.listener import Audio, Listener
    from voicegraft.inference.speaker import Speaker


@dataclass(frozen=True)
class HearingOptions:
    # How the text LLM hears: pure by vectors, cascade by the transcript, beside by both (default: the pack's own way; without
    # one, cascade).
    mode: Literal["pure", "beside", "cascade"] | None = None
    listening: str | None = (
        None  # listening pack: a folder, hub:NAME, or soft, a soft transcript (default where one is needed)
    )
    llm: str | None = (
        None  # the text LLM that answers: a folder, a part or hub:NAME (default: the pack's, or part:smollm2)
    )
    recognizer: str = f"{PART}{JUDGE}"  # a Whisper for CTranslate2, a folder or a part
    encoder: str | None = None  # the speech encoder, a folder, a part or hub:NAME (default: what the pack names)
    language: str = "en"  # of the speech; auto lets the recogniser tell

    @property
    def spoken_language(self) -> str:
        return "" if self.language == "auto" else self.language

    def listener(self, device: str = "cpu", speaker: Speaker | None = None) -> Listener:
        """What hears. With a speaker, one LLM writes what the voice reads: its own where that hears, else the listener's."""
        from transformers.utils.logging import disable_progress_bar

        from voicegraft.inference.listener import Listener

        disable_progress_bar()  # standard error is for what went wrong
        pack, llm = place(self.listening), place(self.llm)
        if speaker is not None and pack is None and llm is None and speaker.pack.lm.hearing is not None:
            if self.encoder is None:
                return Listener.load(speaker.pack.folder, self.mode, recognizer=self.recognizer, writer=speaker.writer)
            pack = speaker.pack.folder  # its LLM once more, with ears of another place
        listener = Listener.load(pack, self.mode, llm, self.recognizer, place(self.encoder), device)
        if speaker is not None:
            speaker.writer = listener.writer
            complain([f"{listener.name} hears ({listener.mode}) and answers; {speaker.pack.header.name} speaks"])
        return listener


def understood(listener: Listener, sound: Audio, task: str, language: str) -> Message:
    """What was said, as a message; what was not understood goes to standard error.

    Raises:
        VoicegraftError: nothing was said, or understood; or what ``Listener.message`` raises.
    """
    message, report = listener.message(sound, task, language)
    if message is None:
        raise VoicegraftError("; ".join(report.warnings))
    complain(report.warnings)
    return message


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
