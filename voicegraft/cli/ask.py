"""Answer a question, written or spoken, in writing and aloud.

A spoken question (--audio) is heard as ``voicegraft listen`` hears it: see its help for what it needs. The LLM that hears it
answers, and the voice pack speaks; standard error tells which. A question beside it is the instruction.

The assistant answers, whose LLM is SmolLM2-135M-Instruct (voicegraft parts get smollm2); without it the pocket pack's own toy.

Exit status: 0 if the answer was spoken; 1 if it has nothing to say aloud (its text is printed, no file is written); 2 after a
mistake, which is told in one line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voicegraft.cli.hearing import HearingOptions, sound_of, understood
from voicegraft.cli.speaking import AskingOptions, complain, sink, standard_input, summary
from voicegraft.core.command_line import read_options
from voicegraft.core.text_input import argument

if TYPE_CHECKING:
    from voicegraft.core.messages import Question


@dataclass(frozen=True)
class AskVerb(AskingOptions, HearingOptions):
    question: str | None = None  # what to ask; standard input where it is missing or -
    audio: str | None = None  # a recording of the question; - reads it from standard input
    out: Path = Path(
        "answer.wav"
    )  # .wav, .flac, .opus or .mp3; - writes a WAV to standard output, and text to standard error
    timestamps: Path | None = None  # word times as .json, .srt or .vtt


def main(argv: Sequence[str] | None = None) -> int:
    options = read_options(AskVerb, argv, __doc__, "voicegraft ask", ("question",))
    writing = options.writing()
    out = sink(options.out)
    asked = options.question
    sound = None if options.audio is None else sound_of(options.audio)
    if asked is None and sound is not None:
        asked = "answer"
    question: Question = "".join(standard_input()) if asked is None or asked == "-" else argument(asked)
    shown = sys.stdout if isinstance(out, Path) else sys.stderr
    speaker = options.answering(writes=sound is None)
    if sound is not None:
        listener = options.listener(options.device, speaker)
        question = understood(listener, sound, str(question), options.spoken_language)

    def show(piece: str) -> None:
        print(piece, end="", flush=True, file=shown)

    from voicegraft.inference.timestamps import timestamps_beside

    with timestamps_beside(options.out, options.timestamps) as (write, close):
        stream = speaker.ask(
            question,
            options.chosen(speaker, options.out),
            options.seed,
            options.speaking(speaker),
            writing=writing,
            on_text=show,
            on_spoken=write,
        )
        try:
            report = stream.save(out)
            close(report)
        finally:
            if stream.text:
                print(flush=True, file=shown)
    complain(stream.warnings)
    if report.status in ("empty", "failed"):
        return 1
    print(summary(options.out, report, stream.writing.first_text_sec), file=shown)
    return 0
