"""A conversation; each reply is text, speech or both.

Messages come line by line from the terminal or standard input; /help lists the commands. Exit status: 0, or 1 if a message
could not be answered as it should be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from voicegraft.cli.speaking import AskingOptions, standard_input
from voicegraft.core.command_line import read_options


@dataclass(frozen=True)
class ChatVerb(AskingOptions):
    reply: Literal["text", "speech", "both"] = "both"  # until a message chooses
    out_dir: Path = Path("replies")  # gets reply-001.wav ...
    play: str | None = None  # command that plays each spoken reply, such as "aplay -q"


def main(argv: Sequence[str] | None = None) -> int:
    options = read_options(ChatVerb, argv, __doc__, "voicegraft chat")
    writing = options.writing()
    from voicegraft.cli.chat import Chat, ChatOptions, player

    play = () if options.play is None else player(options.play)
    speaker = options.load(options.text_expert)
    speaking = options.speaking(speaker)
    wanted = ChatOptions(options.reply, options.out_dir, play, options.voice, options.seed, writing, speaking)
    return Chat(speaker, wanted).run(_messages())


def _messages() -> Iterator[str]:
    """What is typed, or comes in through a pipe, line by line."""
    if not sys.stdin.isatty():
        yield from standard_input()
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
