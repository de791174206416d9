"""What the verbs that speak share: their options, loading, and what they tell the user."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.text_input import arriving

STANDARD_OUTPUT = Path("-")

if TYPE_CHECKING:
    from voicegraft.inference.report import SpeechReport
    from voicegraft.inference.sentence import SpeakOptions
    from voicegraft.inference.speaker import Speaker
    from voicegraft.inference.voice import Voice
    from voicegraft.inference.writer import WritingOptions


@dataclass(frozen=True)
class SpeakingOptions:
    voice: str | None = None  # a voice of the pack
    like: Path | None = None  # a recording, 5 to 20 s, of a person to sound like; ask that person first
    seed: int = 0  # same text, voice and seed: same sound
    pack: str | None = None  # voice pack: a folder, hub:NAME, pocket or assistant (default: pocket; see ask and chat)
    backbone: str | None = None  # the text LLM, a folder or hub:NAME, for a pack that does not hold it
    guard: Literal["on", "watch", "off"] | None = None  # on says faults again, watch tells them (default: on)
    device: str = "cpu"  # cpu, cuda, mps or auto

    def load(self, text_expert: str | None = None) -> Speaker:
        from transformers.utils.logging import disable_progress_bar

        from voicegraft.inference.speaker import Speaker

        disable_progress_bar()  # loading takes a second, and standard error is for what went wrong
        pack, backbone, expert = (place(text) for text in (self.pack, self.backbone, text_expert))
        return Speaker.load(pack, backbone, self.device, expert)

    def chosen(self, speaker: Speaker, out: Path) -> Voice:
        """The voice to speak in; what is to be known of a recording goes to standard error.

        Raises:
            VoicegraftError: no such voice, a recording that is no use or that ``out`` would overwrite, or both.
        """
        if self.like is None:
            return speaker.voice(self.voice)
        if self.voice is not None:
            raise VoicegraftError(
                "--voice names a voice of the pack, --like a recording to sound like: give one of them"
            )
        if self.like.exists() and out.exists() and self.like.samefile(out):
            raise VoicegraftError(f"{out} is the recording to speak like, and would be overwritten: name another file")
        made = speaker.voice_like(self.like)
        complain([*made.warnings, f"speaking like {self.like.name}, in the manner of {made.name}"])
        return made

    def speaking(self, speaker: Speaker) -> SpeakOptions:
        default = speaker.pack.header.options
        return default if self.guard is None else replace(default, guard=replace(default.guard, mode=self.guard))


@dataclass(frozen=True)
class AnsweringOptions:
    max_tokens: int = 256  # longest answer
    temperature: float = 0.0  # 0 writes the likeliest; 1 varies

    def writing(self) -> WritingOptions:
        if not 0 <= self.temperature < float("inf"):
            raise VoicegraftError(f"expected a --temperature of 0 or more, got {self.temperature}")
        from voicegraft.inference.writer import WritingOptions

        default = WritingOptions()
        return WritingOptions(self.max_tokens, replace(default.sampling, temperature=self.temperature))


@dataclass(frozen=True)
class AskingOptions(AnsweringOptions, SpeakingOptions):
    text_expert: str | None = None  # PEFT adapter folder that writes (default: the backbone alone)

    def answering(self, writes: bool = True) -> Speaker:
        """The pack that answers: the one that is named, else the assistant, where its LLM is on this machine.

        The pocket pack's own LLM is a toy, which is told when it answers in the assistant's place.

        Args:
            writes: whether its LLM will answer, and not one that hears.
        """
        if self.pack or self.backbone or self.text_expert:  # a text expert is of one backbone: the user knows which
            return self.load(self.text_expert)
        from voicegraft.inference.pack import ASSISTANT, missing_part, shipped_packs

        if ASSISTANT not in shipped_packs():
            return self.load()
        if part := missing_part(ASSISTANT):
            if writes:
                complain([f"the pocket pack's toy LLM answers, for want of a real one: voicegraft parts get {part}"])
            return self.load()
        return replace(self, pack=ASSISTANT).load()


def place(text: str | None) -> Path | str | None:
    """A path; a name, such as hub:NAME or that of a pack that comes with the package, as it is."""
    from voicegraft.core.hub import is_hub_name
    from voicegraft.inference.pack import is_shipped

    return text if text is None or is_hub_name(text) or is_shipped(text) else Path(text)


def sink(out: Path) -> Path | IO[bytes]:
    """Where sound goes: a file, or standard output for ``-``.

    Raises:
        VoicegraftError: standard output is a terminal, or closed.
    """
    if out != STANDARD_OUTPUT:
        return out
    if sys.stdout is None or sys.stdout.isatty():
        raise VoicegraftError("--out - writes sound to standard output: send it to a file or a program (| aplay)")
    return sys.stdout.buffer


def summary(out: Path, report: SpeechReport, first_text_sec: float | None = None) -> str:
    speed = report.wall_sec / report.duration_sec
    text = "" if first_text_sec is None else f"first text after {1000 * first_text_sec:.0f} ms, "
    return (
        f"{out}: {report.duration_sec:.1f} s of speech in {report.wall_sec:.1f} s "
        f"(RTF {speed:.2f}, {text}first audio after {1000 * report.first_audio_sec:.0f} ms)"
    )


def complain(warnings: list[str]) -> None:
    for warning in warnings:
        print(f"voicegraft: {warning}", file=sys.stderr)


def standard_input() -> Iterator[str]:
    """What comes through standard input, when it comes.

    Raises:
        VoicegraftError: it is closed, or what comes is no text.
    """
    if sys.stdin is None:
        raise VoicegraftError("expected a text, or one on standard input, which is closed")
    if sys.stdin.isatty():
        print("voicegraft: reading the text from standard input; end it with Ctrl-D", file=sys.stderr)
    return arriving(sys.stdin.buffer, "standard input")
