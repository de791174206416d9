"""The console script: one verb per job. Everything heavy is imported by the verb that needs it."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voicegraft import __version__
from voicegraft.core.errors import VoicegraftError

if TYPE_CHECKING:
    from voicegraft.inference.speaker import Speaker, SpeechReport

EVALUATIONS = {
    "speech": "voicegraft.recipes.evaluate_speech",
    "backbone": "voicegraft.recipes.evaluate_backbone",
    "text": "voicegraft.recipes.evaluate_text",
    "tokenizer": "voicegraft.recipes.evaluate_tokenizer",
}
RECIPES = (
    "pocket",
    "prepare",
    "train_backbone",
    "train_semantic",
    "train_codec",
    "tokenize",
    "train_vocoder",
    "train_acoustic",
    "train_speech",
    "bench",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; a user's mistake is one line on standard error and exit status 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["evaluate"]:
            return _delegate("evaluate", EVALUATIONS, arguments[1:])
        if arguments[:1] == ["recipe"]:
            return _delegate("recipe", {n: f"voicegraft.recipes.{n}" for n in RECIPES}, arguments[1:])
        options = _parser().parse_args(arguments)
        return speak(options)
    except VoicegraftError as error:
        print(f"voicegraft: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("voicegraft: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141


def _delegate(verb: str, table: dict[str, str], arguments: list[str]) -> int:
    """``voicegraft evaluate WHAT ...`` and ``voicegraft recipe NAME ...``: the rest belongs to that module."""
    usage = f"usage: voicegraft {verb} {{{','.join(table)}}} ..."
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage)
        return 0 if arguments else 2
    if arguments[0] not in table:
        raise VoicegraftError(f"no such {verb}: {arguments[0]!r}; {usage}")
    status = importlib.import_module(table[arguments[0]]).main(arguments[1:])
    return int(status or 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="voicegraft", description="Take any text LLM and make it speak.")
    parser.add_argument("--version", action="version", version=f"voicegraft {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = verbs.add_parser("speak", help="speak a text, a file of lines, or standard input")
    verb.add_argument("text", nargs="?", help="what to say; standard input where it is missing or -")
    verb.add_argument("--out", type=Path, default=None, help=".wav, .flac or .opus (default: speech.wav)")
    verb.add_argument("--lines", type=Path, help="speak every line of this file into a file of its own")
    verb.add_argument("--out-dir", type=Path, help="with --lines: gets 0001.wav ... and report.jsonl")
    verb.add_argument("--voice", help="a voice of the pack")
    verb.add_argument("--seed", type=int, default=0, help="same text, voice and seed: same sound (default: 0)")
    verb.add_argument("--pack", type=Path, help="voice pack folder (default: the pocket pack of the package)")
    verb.add_argument("--backbone", type=Path, help="folder of the text LLM, for a pack that does not hold it")
    verb.add_argument("--device", default="cpu", help="cpu, cuda, mps or auto (default: cpu)")
    verb.add_argument("--list-voices", action="store_true", help="print the pack's voices and stop")
    verbs.add_parser("evaluate", help="measure speech, a backbone, a tokenizer or the text front end")
    verbs.add_parser("recipe", help="prepare data, train the parts, build the pocket pack")
    return parser


def speak(options: argparse.Namespace) -> int:
    if options.lines is not None and (options.out_dir is None or options.text is not None or options.out is not None):
        raise VoicegraftError("--lines FILE goes with --out-dir DIR, and with neither a text nor --out")
    if options.out_dir is not None and options.lines is None:
        raise VoicegraftError("--out-dir goes with --lines FILE; for one text use --out FILE")
    lines = _read_lines(options.lines) if options.lines is not None else []
    from transformers.utils.logging import disable_progress_bar

    from voicegraft.core.runtime import single_thread
    from voicegraft.inference.speaker import Speaker

    disable_progress_bar()  # loading takes a second, and standard error is for what went wrong
    single_thread()
    speaker = Speaker.load(options.pack, options.backbone, options.device)
    if options.list_voices:
        print("\n".join(speaker.voices))
        return 0
    if options.lines is not None:
        return _speak_lines(speaker, lines, options)
    out = options.out or Path("speech.wav")
    text = _standard_input() if options.text in (None, "-") else options.text
    report = _speak_to_file(speaker, text, out, options)
    _complain(report)
    if report.status == "empty":
        raise VoicegraftError("nothing to say: expected a text with at least one word")
    speed = report.wall_sec / report.duration_sec
    print(
        f"{out}: {report.duration_sec:.1f} s of speech in {report.wall_sec:.1f} s "
        f"(RTF {speed:.2f}, first audio after {1000 * report.first_audio_sec:.0f} ms)"
    )
    return 0


def _speak_to_file(speaker: Speaker, text: str | Iterator[str], out: Path, options: argparse.Namespace) -> SpeechReport:
    """Streams into the file: a chapter needs no more memory than a sentence, and shows its progress."""
    from tqdm import tqdm

    from voicegraft.audio.io import AudioWriter

    if not out.parent.is_dir():
        raise VoicegraftError(f"the folder {out.parent} does not exist; make it or give another --out")
    writer = AudioWriter(out, speaker.sample_rate)  # a wrong suffix shows before anything is spoken
    total = len(text) if isinstance(text, str) else None
    with tqdm(total=total, unit="char", desc=out.name, delay=3, disable=not sys.stderr.isatty()) as bar:
        stream = speaker.stream(text, options.voice, options.seed, on_sentence=lambda s: bar.update(len(s)))
        first = next(stream, None)
        if first is not None:
            with writer:
                writer.write(first)
                for chunk in stream:
                    writer.write(chunk)
                    bar.set_postfix_str(f"{stream.report.duration_sec:.0f} s of audio", refresh=False)
    return stream.report


def _speak_lines(speaker: Speaker, lines: list[str], options: argparse.Namespace) -> int:
    """Speaks line by line; what an earlier, interrupted run finished is kept."""
    from tqdm import tqdm

    folder: Path = options.out_dir
    report_path = folder / "report.jsonl"
    request = {"voice": options.voice or speaker.default_voice, "seed": options.seed, "pack": speaker.fingerprint}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = _finished(report_path, request)
        report = report_path.open("w", encoding="utf-8")
    except OSError as error:
        raise VoicegraftError(f"cannot write to {folder}: {error.strerror}; give another --out-dir") from error
    failures = 0
    with report:
        for number, text in enumerate(tqdm(lines, desc="speak", unit="line", disable=not sys.stderr.isatty()), start=1):
            name = f"{number:04d}.wav"
            row = done.get((name, text))
            if row is None:
                result = _speak_to_file(speaker, text, folder / name, options)
                row = {
                    "file": name,
                    "text": text,
                    "spoken_text": result.spoken_text,
                    "audio_sec": round(result.duration_sec, 3),
                    "wall_sec": round(result.wall_sec, 3),
                    "first_audio_sec": round(result.first_audio_sec, 3),
                    "status": result.status,
                    "skipped": result.skipped,
                    "request": request,
                }
            failures += row["status"] != "ok"
            report.write(json.dumps(row, ensure_ascii=False) + "\n")
            report.flush()
    print(f"{folder}: {len(lines)} lines spoken, {failures} of them not ok (see {report_path.name})")
    return 1 if failures else 0


def _finished(report: Path, request: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """(file, text) -> row of an earlier run's report, for the same request and where the file is there."""
    rows = {}
    for line in report.read_text(encoding="utf-8").splitlines() if report.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # a killed run left half a line
        if row["request"] == request and (report.parent / row["file"]).is_file():
            rows[row["file"], row["text"]] = row
    return rows


def _complain(report: SpeechReport) -> None:
    if report.skipped:
        print(f"voicegraft: left out what the voice cannot say: {' '.join(report.skipped)}", file=sys.stderr)
    if report.status == "cut":
        print("voicegraft: a sound or a spelling was cut short at its bound; listen before you use it", file=sys.stderr)


def _read_lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise VoicegraftError(
            f"cannot read {path}: {error}; expected a UTF-8 text file with one text a line"
        ) from error
    lines = [line for line in lines if line]
    if not lines:
        raise VoicegraftError(f"{path} has no lines to speak")
    return lines


def _standard_input() -> Iterator[str]:
    if sys.stdin.isatty():
        print("voicegraft: reading the text from standard input; end it with Ctrl-D", file=sys.stderr)
    try:
        yield from sys.stdin
    except UnicodeDecodeError as error:
        raise VoicegraftError(f"standard input is not text in {error.encoding}: {error.reason}") from error


if __name__ == "__main__":
    sys.exit(main())
