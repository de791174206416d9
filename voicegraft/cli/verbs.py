"""The verbs of the console script, and who does them. Everything heavy is imported by the verb that needs it."""

from __future__ import annotations

import ast
import errno
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from voicegraft import __version__
from voicegraft.core.errors import VoicegraftError

VERBS = {
    "speak": "voicegraft.cli.speak",
    "ask": "voicegraft.cli.ask",
    "chat": "voicegraft.cli.chat",
    "listen": "voicegraft.cli.listen",
    "synthesize": "voicegraft.recipes.synthesize",
    "prepare": "voicegraft.recipes.prepare",
    "graft": "voicegraft.recipes.graft",
    "export": "voicegraft.recipes.export",
    "parts": "voicegraft.recipes.parts",
    "listen-test": "voicegraft_listening.command",
}
EVALUATIONS = {
    "speech": "voicegraft.recipes.evaluate_speech",
    "compare": "voicegraft.evaluation.reports.comparison",
    "robustness": "voicegraft.recipes.evaluate_robustness",
    "backbone": "voicegraft.recipes.evaluate_backbone",
    "forgetting": "voicegraft.recipes.evaluate_forgetting",
    "listening": "voicegraft.recipes.evaluate_listening",
}
RECIPES = {
    "align": "voicegraft.recipes.align",
    "say": "voicegraft.recipes.say",
    "fit_units": "voicegraft.recipes.fit_units",
    "train_semantic": "voicegraft.recipes.train_semantic",
    "train_codec": "voicegraft.recipes.train_codec",
    "tokenize": "voicegraft.recipes.tokenize",
    "encode": "voicegraft.recipes.encode",
    "train_connector": "voicegraft.recipes.train_connector",
    "train_vocoder": "voicegraft.recipes.train_vocoder",
    "train_acoustic": "voicegraft.recipes.train_acoustic",
    "train_text": "voicegraft.recipes.train_text",
    "train_speech": "voicegraft.recipes.train_speech",
    "train_router": "voicegraft.recipes.train_router",
    "train_monitor": "voicegraft.recipes.train_monitor",
    "imitate": "voicegraft.recipes.imitate",
    "mix_modalities": "voicegraft.recipes.mix_modalities",
    "train_listening": "voicegraft.recipes.train_listening",
}
GROUPS = {"evaluate": EVALUATIONS, "recipe": RECIPES}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; a user's mistake is one line on standard error and exit status 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # where it is installed it tells everyone what it lacks
    if sys.stderr is None:  # closed
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    with _log_told():
        try:
            try:
                return _run("voicegraft", VERBS, arguments)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()  # what cannot be written is to show here
        except VoicegraftError as error:
            print(f"voicegraft: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("voicegraft: interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:
            _forget_output()
            return 141
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            print(f"voicegraft: cannot write: {error.strerror}", file=sys.stderr)
            _forget_output()
            return 2


@contextmanager
def _log_told() -> Iterator[None]:
    """What the package logs goes to standard error, each message once."""
    said: set[str] = set()

    def new(record: logging.LogRecord) -> bool:
        before = len(said)
        said.add(record.getMessage())
        return len(said) > before

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("voicegraft: %(message)s"))
    handler.addFilter(new)
    logger = logging.getLogger("voicegraft")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _forget_output() -> None:
    """Python would try to write what is left once more, and fail once more, when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(prog: str, table: Mapping[str, str], arguments: Sequence[str]) -> int:
    """The verb that comes first in the arguments, with the rest."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help(prog, table), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    verb, rest = arguments[0], arguments[1:]
    called = f"{prog} {verb}".removeprefix("voicegraft ")
    if called in GROUPS:
        return _run(f"{prog} {verb}", GROUPS[verb], rest)
    if called == "--version":
        print(f"voicegraft {__version__}")
        return 0
    if verb not in table:
        raise VoicegraftError(f"no such verb: {called!r}; {prog} knows {', '.join([*table, *_groups(table)])}")
    return int(importlib.import_module(table[verb]).main(rest) or 0)


def _groups(table: Mapping[str, str]) -> Sequence[str]:
    return [*GROUPS] if table is VERBS else []


def _help(prog: str, table: Mapping[str, str]) -> str:
    rows = {verb: _about(module) for verb, module in table.items()}
    for group in _groups(table):
        rows |= {f"{group} {verb}": _about(module) for verb, module in GROUPS[group].items()}
    if table is VERBS:
        rows["--version"] = "The version."
    width = max(map(len, rows))
    lines = [f"usage: {prog} VERB ...", "", *(f"  {verb:<{width}}  {about}" for verb, about in rows.items())]
    return "\n".join([*lines, "", f"{prog} VERB --help says more."])


def _about(module: str) -> str:
    """The first line of a module's docstring, without importing it; nothing of one that is not installed."""
    with suppress(ImportError, OSError, SyntaxError):
        origin = getattr(find_spec(module), "origin", None)
        text = ast.get_docstring(ast.parse(Path(origin).read_text(encoding="utf-8"))) if origin else None
        return (text or "").partition("\n")[0]
    return ""
