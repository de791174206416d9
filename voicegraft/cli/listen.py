"""Write what is said in recordings, or answer it: any instruction for what was said.

Needs faster-whisper (pip install voicegraft[whisper]) and parts, which are fetched once:

  voicegraft parts get whisper-base-ct2    the recogniser, 148 MB
  voicegraft parts get smollm2             the text LLM, 271 MB; for --task, and for pure mode

The text goes to standard output, notes to standard error. Exit status: 0 if all of it was understood; 1 if there was no speech,
some was not understood, or the answer was cut; 2 after a mistake, which is told in one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from voicegraft.cli.hearing import HearingOptions, from_microphone, sound_of
from voicegraft.cli.speaking import AnsweringOptions, complain
from voicegraft.core.command_line import read_options
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.text_input import argument


@dataclass(frozen=True)
class ListenVerb(AnsweringOptions, HearingOptions):
    files: tuple[str, ...] = ()  # recordings of any length; - reads one from standard input
    task: str = "transcribe"  # or answer, topic, ..., or an instruction in your words, such as "Summarize this text."
    microphone: bool = False  # listens until Enter is pressed
    times: bool = False  # begins each line of a transcript with its seconds: BEGIN END TEXT
    seed: int = 0  # of answers at a temperature
    device: str = "cpu"  # of the text LLM: cpu, cuda, mps or auto


def main(argv: Sequence[str] | None = None) -> int:
    options = read_options(ListenVerb, argv, __doc__, "voicegraft listen", ("files",), {"listening": "pack"})
    writing, task = options.writing(), argument(options.task)
    if options.microphone == bool(options.files):
        raise VoicegraftError("expected recordings, - for one on standard input, or --microphone; --help says more")
    if options.times and task != "transcribe":
        raise VoicegraftError("--times goes with a transcript, not with --task")
    listener = options.listener(options.device)
    status = 0
    for name in options.files or ("the microphone",):
        try:
            sound = from_microphone() if options.microphone else sound_of(name)
            answer = listener.listen(sound, task, options.spoken_language, writing, options.seed)
            pieces = chain([next(answer, "")], answer)  # some mistakes show with the first piece
        except VoicegraftError as error:
            if len(options.files) < 2:
                raise
            complain([f"{name}: {error}"])  # the others are heard all the same
            status = 2
            continue
        if len(options.files) > 1:
            print(f"{name}:", flush=True)
        for piece in pieces:
            if not options.times:
                print(piece, end="", flush=True)
        for heard in answer.segments if options.times else ():
            if heard.sure:
                print(f"{heard.begin_sec:.2f} {heard.end_sec:.2f} {heard.text}", flush=True)
        if answer.text and not options.times:
            print(flush=True)
        complain([f"{name}: {warning}" for warning in answer.warnings])
        status = max(status, int(bool(answer.warnings)))
    return status
