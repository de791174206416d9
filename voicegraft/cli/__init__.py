"""The console script: one verb per job. Everything heavy is imported by the verb that needs it."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from voicegraft import __version__
from voicegraft.core.errors import VoicegraftError

if TYPE_CHECKING:
    from voicegraft.inference.report import SpeechReport, SpokenSentence
    from voicegraft.inference.sentence import SpeakOptions
    from voicegraft.inference.speaker import Speaker
    from voicegraft.inference.writer import WritingOptions

EVALUATIONS = {
    "speech": "voicegraft.recipes.evaluate_speech",
    "compare": "voicegraft.recipes.compare_speech",
    "trust": "voicegraft.recipes.evaluate_trust",
    "backbone": "voicegraft.recipes.evaluate_backbone",
    "text": "voicegraft.recipes.evaluate_text",
    "forgetting": "voicegraft.recipes.evaluate_forgetting",
}
RECIPES = {
    "pocket": "voicegraft.recipes.pocket.build",
    "prepare_pocket": "voicegraft.recipes.pocket.prepare",
    "align": "voicegraft.recipes.align",
    "fit_units": "voicegraft.recipes.fit_units",
    "train_backbone": "voicegraft.recipes.train_backbone",
    "train_semantic": "voicegraft.recipes.train_semantic",
    "train_codec": "voicegraft.recipes.train_codec",
    "tokenize": "voicegraft.recipes.tokenize",
    "train_vocoder": "voicegraft.recipes.train_vocoder",
    "train_acoustic": "voicegraft.recipes.train_acoustic",
    "train_text": "voicegraft.recipes.train_text",
    "train_speech": "voicegraft.recipes.train_speech",
    "train_router": "voicegraft.recipes.train_router",
    "train_monitor": "voicegraft.recipes.train_monitor",
}
# Verbs whose arguments belong to a module of their own.
VERBS = {
    "prepare": "voicegraft.recipes.prepare",
    "graft": "voicegraft.recipes.graft",
    "export": "voicegraft.recipes.export",
    "reproduce": "voicegraft.recipes.reproduce",
    "listen-test": "voicegraft.recipes.listen_test",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; a user's mistake is one line on standard error and exit status 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # where it is installed it tells everyone what it lacks
    try:
        if arguments[:1] == ["evaluate"]:
            return _delegate("evaluate", EVALUATIONS, arguments[1:])
        if arguments[:1] == ["recipe"]:
            return _delegate("recipe", RECIPES, arguments[1:])
        if arguments[:1] and arguments[0] in VERBS:
            return _delegate("", VERBS, arguments)
        options = _parser().parse_args(arguments)
        return int(options.run(options))
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
    verb.add_argument("--list-voices", action="store_true", help="print the pack's voices and stop")
    verb.add_argument(
        "--timestamps",
        type=Path,
        metavar="FILE",
        help="word times as .json, .srt or .vtt; with --lines the suffix alone",
    )
    _add_speaking(verb)
    verb.set_defaults(run=speak)
    verb = verbs.add_parser(
        "ask",
        help="answer a question, written and spoken",
        epilog="Exit status: 0 if the answer was spoken; 1 if it has nothing to say aloud (its text is printed, no file is "
        "written); 2 after a mistake, which is told in one line.",
    )
    verb.add_argument("question", nargs="?", help="what to ask; standard input where it is missing or -")
    verb.add_argument("--out", type=Path, default=Path("answer.wav"), help=".wav, .flac or .opus (default: answer.wav)")
    verb.add_argument("--timestamps", type=Path, metavar="FILE", help="word times as .json, .srt or .vtt")
    _add_speaking(verb)
    _add_writing(verb)
    verb.set_defaults(run=ask)
    verb = verbs.add_parser(
        "chat",
        help="a conversation; each reply is text, speech or both",
        epilog="Messages come line by line from the terminal or standard input; /help lists the commands. Exit status: 0, or 1 "
        "if a message could not be answered as it should be.",
    )
    verb.add_argument("--reply", choices=("text", "speech", "both"), default="both", help="until a message chooses")
    verb.add_argument("--out-dir", type=Path, default=Path("replies"), help="gets reply-001.wav ... (default: replies)")
    verb.add_argument("--play", metavar="COMMAND", help='plays each spoken reply, such as "aplay -q"')
    _add_speaking(verb)
    _add_writing(verb)
    verb.set_defaults(run=_chat)
    verbs.add_parser("evaluate", help="measure speech, a backbone, what it forgot, a tokenizer or the text front end")
    verbs.add_parser("reproduce", help="the paper's table: what each way of adding a voice keeps, gains and costs")
    verbs.add_parser("listen-test", help="listening tests by people: make the page, score the results")
    verbs.add_parser("graft", help="your backbone and your recordings become a voice pack: the whole road")
    verbs.add_parser("prepare", help="your recordings: check, level, write shards, report")
    verbs.add_parser("export", help="a pack for transformers, PEFT and vLLM, or for llama.cpp (GGUF)")
    verbs.add_parser("recipe", help="single steps: tokenise, train a part, build the pocket pack, measure speed")
    return parser


def _place(text: str) -> Path | str:
    """A path, or hub:NAME as it is."""
    return text if text.startswith("hub:") else Path(text)


def _add_speaking(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--voice", help="a voice of the pack")
    verb.add_argument("--seed", type=int, default=0, help="same text, voice and seed: same sound (default: 0)")
    verb.add_argument(
        "--pack", type=_place, help="voice pack: a folder, or hub:NAME (default: the pocket pack of the package)"
    )
    verb.add_argument(
        "--backbone", type=_place, help="the text LLM, a folder or hub:NAME, for a pack that does not hold it"
    )
    verb.add_argument(
        "--guard", choices=("on", "watch", "off"), help="on says faults again, watch tells them (default: on)"
    )
    verb.add_argument("--device", default="cpu", help="cpu, cuda, mps or auto (default: cpu)")


def _add_writing(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--text-expert", type=_place, help="PEFT adapter folder that writes (default: the backbone alone)"
    )
    verb.add_argument("--max-tokens", type=int, default=256, help="longest answer (default: 256)")
    verb.add_argument("--temperature", type=float, default=0.0, help="0 writes the likeliest (default); 1 varies")


def speak(options: argparse.Namespace) -> int:
    if options.lines is not None and (options.out_dir is None or options.text is not None or options.out is not None):
        raise VoicegraftError("--lines FILE goes with --out-dir DIR, and with neither a text nor --out")
    if options.out_dir is not None and options.lines is None:
        raise VoicegraftError("--out-dir goes with --lines FILE; for one text use --out FILE")
    lines = _read_lines(options.lines) if options.lines is not None else []
    speaker = _load(options)
    if options.list_voices:
        print("\n".join(speaker.voices))
        return 0
    if options.lines is not None:
        return _speak_lines(speaker, lines, options)
    out = options.out or Path("speech.wav")
    text = _standard_input() if options.text in (None, "-") else options.text
    report, _ = _speak_to_file(speaker, text, out, options, options.timestamps)
    _complain(report.warnings)
    if report.status == "empty":
        raise VoicegraftError("nothing to say: expected a text with at least one word")
    if not report.duration_sec:
        _complain([f"no sound was made, so {out} is not written"])
        return 1
    print(_summary(out, report))
    return 1 if report.status == "failed" else 0


def ask(options: argparse.Namespace) -> int:
    writing = _writing(options)
    question = "".join(_standard_input()) if options.question in (None, "-") else options.question
    speaker = _load(options, options.text_expert)

    def show(piece: str) -> None:
        print(piece, end="", flush=True)

    from voicegraft.inference.timestamps import timestamps_beside

    with timestamps_beside(options.out, options.timestamps) as (write, close):
        stream = speaker.ask(
            question,
            options.voice,
            options.seed,
            _speaking(speaker, options),
            writing=writing,
            on_text=show,
            on_spoken=write,
        )
        try:
            report = stream.save(options.out)
            close(report)
        finally:
            if stream.text:
                print(flush=True)
    _complain(stream.warnings)
    if report.status in ("empty", "failed"):
        return 1
    print(_summary(options.out, report, stream.writing.first_text_sec))
    return 0


def _chat(options: argparse.Namespace) -> int:
    writing = _writing(options)
    from voicegraft.cli.chat import Chat, ChatOptions, player

    play = () if options.play is None else player(options.play)
    speaker = _load(options, options.text_expert)
    speaking = _speaking(speaker, options)
    wanted = ChatOptions(options.reply, options.out_dir, play, options.voice, options.seed, writing, speaking)
    return Chat(speaker, wanted).run(_messages())


def _messages() -> Iterator[str]:
    """What is typed, or comes in through a pipe, line by line."""
    if not sys.stdin.isatty():
        yield from _standard_input()
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


def _load(options: argparse.Namespace, text_expert: Path | str | None = None) -> Speaker:
    from transformers.utils.logging import disable_progress_bar

    from voicegraft.core.runtime import single_thread
    from voicegraft.inference.speaker import Speaker

    disable_progress_bar()  # loading takes a second, and standard error is for what went wrong
    single_thread()
    return Speaker.load(options.pack, options.backbone, options.device, text_expert)


def _writing(options: argparse.Namespace) -> WritingOptions:
    if not 0 <= options.temperature < float("inf"):
        raise VoicegraftError(f"expected a --temperature of 0 or more, got {options.temperature}")
    from voicegraft.inference.writer import WritingOptions

    default = WritingOptions()
    return WritingOptions(options.max_tokens, replace(default.sampling, temperature=options.temperature))


def _summary(out: Path, report: SpeechReport, first_text_sec: float | None = None) -> str:
    speed = report.wall_sec / report.duration_sec
    text = "" if first_text_sec is None else f"first text after {1000 * first_text_sec:.0f} ms, "
    return (
        f"{out}: {report.duration_sec:.1f} s of speech in {report.wall_sec:.1f} s "
        f"(RTF {speed:.2f}, {text}first audio after {1000 * report.first_audio_sec:.0f} ms)"
    )


def _speaking(speaker: Speaker, options: argparse.Namespace) -> SpeakOptions:
    default = speaker.pack.header.options
    return default if options.guard is None else replace(default, guard=replace(default.guard, mode=options.guard))


def _speak_to_file(
    speaker: Speaker, text: str | Iterator[str], out: Path, options: argparse.Namespace, timestamps: Path | None
) -> tuple[SpeechReport, list[SpokenSentence]]:
    """Streams into the file: a chapter needs no more memory than a sentence, and shows its progress.

    Returns the report and, of a line of ``--lines``, its sentences.
    """
    from tqdm import tqdm

    from voicegraft.inference.timestamps import timestamps_beside

    total = len(text) if isinstance(text, str) else None
    spoken: list[SpokenSentence] = []
    with (
        tqdm(total=total, unit="char", desc=out.name, delay=3, disable=not sys.stderr.isatty()) as bar,
        timestamps_beside(out, timestamps) as (write, close),
    ):

        def said(sentence: SpokenSentence) -> None:
            write(sentence)
            if options.lines is not None:
                spoken.append(sentence)

        stream = speaker.stream(
            text,
            options.voice,
            options.seed,
            _speaking(speaker, options),
            on_sentence=lambda s: bar.update(len(s)),
            on_spoken=said,
        )
        seconds = stream.report
        stream.save(out, lambda: bar.set_postfix_str(f"{seconds.duration_sec:.0f} s of audio", refresh=False))
        close(stream.report)
    return stream.report, spoken


def _speak_lines(speaker: Speaker, lines: list[str], options: argparse.Namespace) -> int:
    """Speaks line by line; what an earlier, interrupted run finished is kept."""
    from tqdm import tqdm

    from voicegraft.cli.lines import LineReports

    times: Path | None = options.timestamps
    suffix = "" if times is None else times.suffix or f".{times.name}"
    request = {"voice": options.voice or speaker.default_voice, "seed": options.seed, "pack": speaker.fingerprint}
    request |= {"guard": _speaking(speaker, options).guard.mode, "timestamps": suffix}
    reports, rows = LineReports(options.out_dir, request), []
    for number, text in enumerate(tqdm(lines, desc="speak", unit="line", disable=not sys.stderr.isatty()), start=1):
        path = options.out_dir / f"{number:04d}.wav"
        row = reports.earlier(path.name, text)
        if row is None:
            times = path.with_suffix(suffix) if suffix else None
            row = reports.add(path.name, text, *_speak_to_file(speaker, text, path, options, times))
        rows.append(row)
    reports.finish(rows)
    failures = sum(row["status"] != "ok" for row in rows)
    print(f"{options.out_dir}: {len(lines)} lines spoken, {failures} of them not ok (see {reports.path.name})")
    return 1 if failures else 0


def _complain(warnings: list[str]) -> None:
    for warning in warnings:
        print(f"voicegraft: {warning}", file=sys.stderr)


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
