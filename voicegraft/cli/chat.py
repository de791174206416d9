"""A conversation, written or spoken; each reply is text, speech or both.

The assistant answers, whose LLM is SmolLM2-135M-Instruct (voicegraft parts get smollm2); without it the pocket pack's own toy.
Messages come line by line from the terminal or standard input; /help lists the commands. Exit status: 0, or 1 if a message
could not be answered as it should be.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from voicegraft.cli.hearing import HearingOptions, from_microphone, understood
from voicegraft.cli.speaking import AskingOptions, standard_input
from voicegraft.core.command_line import read_options
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.text_input import lines_of

if TYPE_CHECKING:
    from voicegraft.core.messages import Message
    from voicegraft.inference.listener import Audio, Listener
    from voicegraft.inference.speaker import Speaker

Reply = Literal["text", "speech", "both"]
HELP = """\
Write a message and press Enter. A line may begin with
  /text, /speech, /both   how this message and those after it are answered; alone on a line: those after it
  /hear FILE, /mic        a spoken message: a recording, or what you say until you press Enter
  /new                    forgets the conversation
  /help                   shows this list
  /quit                   ends, as Ctrl-D does; Ctrl-C stops a reply
A message that itself begins with a slash: put a space before it."""


@dataclass(frozen=True)
class ChatOptions(AskingOptions, HearingOptions):
    reply: Reply = "both"  # until a message chooses
    out_dir: Path = Path("replies")  # gets reply-001.wav ...; what is there already is kept
    play: str | None = None  # command that plays each spoken reply, such as "aplay -q"


def main(argv: Sequence[str] | None = None) -> int:
    options = read_options(ChatOptions, argv, __doc__, "voicegraft chat")
    options.writing()  # mistakes show before anything is loaded
    player(options.play)
    return Chat(options.answering(), options).run(_messages())


def _messages() -> Iterator[str]:
    """What is typed, or comes in through a pipe, line by line."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield from lines_of(standard_input())
        return
    with suppress(ImportError):
        import readline  # noqa: F401  arrow keys edit the line
    print("voicegraft: write a message; /help lists the commands, Ctrl-D ends", file=sys.stderr)
    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return


def player(command: str | None) -> tuple[str, ...]:
    """A command line such as ``aplay -q`` -> its words, to be run without a shell; none for none.

    Raises:
        VoicegraftError: no command, or none that this machine has.
    """
    if command is None:
        return ()
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise VoicegraftError(f"expected a command that plays a file, got {command!r}: {error}") from error
    if not words or shutil.which(words[0]) is None:
        raise VoicegraftError(f"cannot play with {command!r}: there is no such program; install it or name another")
    return tuple(words)


class Chat:
    """Replies go to standard output and into files, what went wrong to standard error."""

    def __init__(self, speaker: Speaker, options: ChatOptions):
        """
        Raises:
            VoicegraftError: no such voice, no room for answers, or a folder that is needed and cannot be written.
        """
        self.speaker, self.options = speaker, options
        self.writing, self.speaking, self.play = options.writing(), options.speaking(speaker), player(options.play)
        self.reply = options.reply
        self.listener: Listener | None = None  # from the first spoken message on
        self.messages: list[Message] = []
        self._forgets = False  # whether the oldest messages have been left out
        self._mid_line = False
        self._failed = False
        self.voice = options.chosen(speaker, options.out_dir)
        speaker.writer.room(self.writing)
        if self.reply != "text":
            self._next_file()

    def run(self, lines: Iterable[str]) -> int:
        """Takes line by line, until the last or /quit -> 0, or 1 if a message was not answered as it should be."""
        for line in lines:
            try:
                if not self.take(line):
                    break
            except VoicegraftError as error:
                self._complain(str(error))
            except KeyboardInterrupt:
                self._note("stopped")
        return int(self._failed)

    def take(self, line: str) -> bool:
        """Obeys or answers a line -> whether the conversation goes on.

        Raises:
            VoicegraftError: no such command, a message that the backbone cannot take, or a file that cannot be written.
        """
        message = line.strip()
        if line.startswith("/"):
            name, _, message = message.removeprefix("/").partition(" ")
            message = message.strip()
            if name in get_args(Reply):
                self.reply = cast(Reply, name)
                if not message:
                    print(f"replies from here on: {name}", flush=True)
            elif name == "hear" and message:
                self._hear(Path(message))
                return True
            elif message or name not in ("mic", "new", "help", "quit"):
                raise VoicegraftError(f"no command {line.strip()!r}; /help lists them")
            elif name == "mic":
                self._hear(from_microphone())
            elif name == "new":
                self.messages, self._forgets = [], False
                print("the conversation is forgotten", flush=True)
            elif name == "help":
                print(HELP, flush=True)
            else:
                return False
        if message:
            from voicegraft.core.messages import Message

            self._answer(Message.user(message))
        return True

    def _hear(self, sound: Audio) -> None:
        options = self.options
        self.listener = self.listener or options.listener(options.device, self.speaker)
        message = understood(self.listener, sound, "answer", options.spoken_language)
        print(f"heard: {message.marked('').strip()}" if message.marked("").strip() else "heard", flush=True)
        self._answer(message)

    def _answer(self, message: Message) -> None:
        messages = self.speaker.writer.fitting([*self.messages, message], self.writing)
        if self.reply == "text":
            self._write(messages)
        else:
            self._speak(messages)

    def _write(self, messages: list[Message]) -> None:
        writing = self.speaker.write(messages, self.options.seed, self.writing)
        self._tell_left_out(messages)
        for piece in writing:
            self._show(piece)
        self._end_reply(messages, writing.text, bool(writing.text), writing.report.warnings)

    def _speak(self, messages: list[Message]) -> None:
        options, out = self.options, self._next_file()
        show = self._show if self.reply == "both" else None
        stream = self.speaker.ask(messages, self.voice, options.seed, self.speaking, writing=self.writing, on_text=show)
        self._tell_left_out(messages)
        status = stream.save(out).status
        spoken = status != "empty"
        if not spoken and show is None:  # what cannot be heard is to be read
            self._show(stream.text)
        self._end_reply(messages, stream.text, spoken and status != "failed", stream.warnings)
        if spoken:
            print(f"{out}: {stream.report.duration_sec:.1f} s of speech", flush=True)
            self._play(out)

    def _tell_left_out(self, messages: list[Message]) -> None:
        """Once per conversation, when its history is not whole any more."""
        if len(messages) <= len(self.messages) and not self._forgets:
            self._forgets = True
            self._note("the conversation no longer fits the backbone's context: its oldest messages are left out")

    def _end_reply(self, messages: list[Message], text: str, whole: bool, warnings: list[str]) -> None:
        self._end_line()
        self._failed |= not whole
        if text:
            from voicegraft.core.messages import Message

            self.messages = [*messages, Message.assistant(text)]
        for warning in warnings:
            self._note(warning)

    def _play(self, out: Path) -> None:
        if not self.play:
            return
        command = [*self.play, str(out)]
        try:
            status = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
        except OSError as error:
            raise VoicegraftError(f"cannot run {shlex.join(command)}: {error.strerror}") from error
        if status:
            raise VoicegraftError(f"{shlex.join(command)} ended with status {status}; the reply is in the file")

    def _next_file(self) -> Path:
        folder = self.options.out_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VoicegraftError(f"cannot write to {folder}: {error.strerror}; give another --out-dir") from error
        return next(out for n in count(1) if not (out := folder / f"reply-{n:03d}.wav").exists())

    def _show(self, piece: str) -> None:
        print(piece, end="", flush=True)
        self._mid_line = bool(piece) or self._mid_line

    def _end_line(self) -> None:
        if self._mid_line:
            print(flush=True)
        self._mid_line = False

    def _note(self, message: str) -> None:
        self._end_line()
        print(f"voicegraft: {message}", file=sys.stderr, flush=True)

    def _complain(self, message: str) -> None:
        self._failed = True
        self._note(message)
