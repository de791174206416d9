"""Speak a text, a file of lines, or standard input.

Exit status: 0 if everything was said; 1 if not, which the report tells; 2 after a mistake, which is told in one line.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from voicegraft.cli.speaking import STANDARD_OUTPUT, SpeakingOptions, complain, sink, standard_input, summary
from voicegraft.core.command_line import read_options
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.text_input import argument, file_lines

if TYPE_CHECKING:
    from voicegraft.inference.report import SpeechReport, SpokenSentence
    from voicegraft.inference.speaker import Speaker
    from voicegraft.inference.voice import Voice


@dataclass(frozen=True)
class SpeakVerb(SpeakingOptions):
    text: str | None = None  # what to say; standard input where it is missing or -
    out: Path | None = (
        None  # .wav, .flac, .opus or .mp3; - writes a WAV to standard output as it is made (default: speech.wav)
    )
    lines: Path | None = None  # speak every line of this file into a file of its own
    out_dir: Path | None = None  # with --lines: gets 0001.wav ... and report.jsonl
    list_voices: bool = False  # print the pack's voices and stop
    timestamps: Path | None = None  # word times as .json, .srt or .vtt; with --lines the suffix alone


def main(argv: Sequence[str] | None = None) -> int:
    options = read_options(SpeakVerb, argv, __doc__, "voicegraft speak", ("text",))
    if options.lines is not None and (options.out_dir is None or options.text is not None or options.out is not None):
        raise VoicegraftError("--lines FILE goes with --out-dir DIR, and with neither a text nor --out")
    if options.out_dir is not None and options.lines is None:
        raise VoicegraftError("--out-dir goes with --lines FILE; for one text use --out FILE")
    out = options.out or Path("speech.wav")
    place = sink(out)
    lines = _read_lines(options.lines) if options.lines is not None else []
    speaker = options.load()
    if options.list_voices:
        print("\n".join(speaker.voices))
        return 0
    if options.lines is not None and options.out_dir is not None:
        return _speak_lines(speaker, lines, options.out_dir, options)
    text = standard_input() if options.text is None or options.text == "-" else argument(options.text)
    report, _ = _speak_to_file(speaker, text, place, options, options.chosen(speaker, out), options.timestamps)
    complain(report.warnings)
    if report.status == "empty":
        raise VoicegraftError("nothing to say: expected a text with at least one word")
    if not report.duration_sec:
        complain([f"no sound was made, so {out} is not written"])
        return 1
    print(summary(out, report), file=sys.stdout if isinstance(place, Path) else sys.stderr)
    return 1 if report.status == "failed" else 0


def _speak_to_file(
    speaker: Speaker,
    text: str | Iterator[str],
    out: Path | IO[bytes],
    options: SpeakVerb,
    voice: Voice,
    timestamps: Path | None,
) -> tuple[SpeechReport, list[SpokenSentence]]:
    """Streams into the file: a chapter needs no more memory than a sentence, and shows its progress.

    Returns the report and, of a line of ``--lines``, its sentences.
    """
    from tqdm import tqdm

    from voicegraft.inference.timestamps import timestamps_beside

    sound = out if isinstance(out, Path) else STANDARD_OUTPUT
    total = len(text) if isinstance(text, str) else None
    spoken: list[SpokenSentence] = []
    with (
        tqdm(total=total, unit="char", desc=sound.name, delay=3, disable=not sys.stderr.isatty()) as bar,
        timestamps_beside(sound, timestamps) as (write, close),
    ):

        def said(sentence: SpokenSentence) -> None:
            write(sentence)
            if options.lines is not None:
                spoken.append(sentence)

        stream = speaker.stream(
            text,
            voice,
            options.seed,
            options.speaking(speaker),
            on_sentence=lambda s: bar.update(len(s)),
            on_spoken=said,
        )
        seconds = stream.report
        stream.save(out, lambda: bar.set_postfix_str(f"{seconds.duration_sec:.0f} s of audio", refresh=False))
        close(stream.report)
    return stream.report, spoken


def _speak_lines(speaker: Speaker, lines: Sequence[tuple[int, str]], out_dir: Path, options: SpeakVerb) -> int:
    """Speaks line by line; what an earlier, interrupted run finished is kept."""
    from tqdm import tqdm

    from voicegraft.cli.lines import LineReports

    times: Path | None = options.timestamps
    suffix = "" if times is None else times.suffix or f".{times.name}"
    voice = options.chosen(speaker, out_dir / (options.like.name if options.like else ""))
    request = {"voice": voice.name, "seed": options.seed, "pack": speaker.fingerprint}
    request |= {"like": hashlib.sha256(voice.vector.tobytes()).hexdigest()[:16]} if voice.like else {}
    request |= {"guard": options.speaking(speaker).guard.mode, "timestamps": suffix}
    reports, rows = LineReports(out_dir, request), []
    shown = tqdm(lines, desc="speak", unit="line", disable=not sys.stderr.isatty())
    for number, (line, text) in enumerate(shown, start=1):
        path = out_dir / f"{number:04d}.wav"
        row = reports.earlier(path.name, text)
        if row is None:
            times = path.with_suffix(suffix) if suffix else None
            row = reports.add(path.name, text, *_speak_to_file(speaker, text, path, options, voice, times))
        rows.append({**row, "line": line})
    reports.finish(rows)
    old = sorted({path.name for path in out_dir.glob("[0-9]*.wav")} - {row["file"] for row in rows})
    if old:
        complain(
            [f"{out_dir} also holds {len(old)} sounds of other lines: {', '.join(old[:8])}{' ...' * (len(old) > 8)}"]
        )
    failures = sum(row["status"] != "ok" for row in rows)
    print(f"{out_dir}: {len(lines)} lines spoken, {failures} of them not ok (see {reports.path.name})")
    return 1 if failures else 0


def _read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers in the file."""
    lines = [(number, text) for number, line in enumerate(file_lines(path), start=1) if (text := line.strip())]
    if not lines:
        raise VoicegraftError(f"{path} has no lines to speak")
    return lines
