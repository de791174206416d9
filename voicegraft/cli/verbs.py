"""The verbs of the console script, and who does them. Everything heavy is imported by the verb that needs it."""

from __future__ import annotations

import ast
import importlib
import logging
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from voicegraft import __version__
from voicegraft.core.errors import VoicegraftError

VERBS = {
    "speak": "voicegraft.cli.speak",
    "ask": "voicegraft.cli.ask",
    "chat": "voicegraft.cli.chat",
    "prepare": "voicegraft.recipes.prepare",
    "graft": "voicegraft.recipes.graft",
    "export": "voicegraft.recipes.export",
    "listen-test": "voicegraft_listening.command",
}
EVALUATIONS = {
    "speech": "voicegraft.recipes.evaluate_speech",
    "compare": "voicegraft.evaluation.reports.comparison",
    "robustness": "voicegraft.recipes.evaluate_robustness",
    "backbone": "voicegraft.recipes.evaluate_backbone",
    "forgetting": "voicegraft.recipes.evaluate_forgetting",
}
RECIPES = {
    "align": "voicegraft.recipes.align",
    "fit_units": "voicegraft.recipes.fit_units",
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
GROUPS = {"evaluate": EVALUATIONS, "recipe": RECIPES}
# What is called otherwise today -> how.
RENAMED = {
    "reproduce": "python -m benchmarks.paper_table, in the repository",
    "recipe pocket": "python -m pocket.build, in the repository",
    "recipe prepare_pocket": "python -m pocket.prepare, in the repository",
    "recipe train_backbone": "python -m pocket.train_backbone, in the repository",
    "evaluate trust": "evaluate robustness",
    "evaluate text": "python -m tools.evaluate_text, in the repository",
    "evaluate tokenizer": "python -m tools.tokenizer_study.study, in the repository",
    "recipe bench": "python -m benchmarks.speaking, in the repository",
    "recipe bench_codecs": "python -m benchmarks.codecs, in the repository",
    "recipe bench_fusion": "python -m benchmarks.fusion, in the repository",
    "recipe bench_tokenize": "python -m benchmarks.tokenizing, in the repository",
    "recipe bench_training": "python -m benchmarks.training, in the repository",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; a user's mistake is one line on standard error and exit status 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # where it is installed it tells everyone what it lacks
    try:
        return _run("voicegraft", VERBS, arguments)
    except VoicegraftError as error:
        print(f"voicegraft: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("voicegraft: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141


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
    if called in RENAMED:
        raise VoicegraftError(f"{called} is now {RENAMED[called]}")
    if verb not in table:
        raise VoicegraftError(f"no such verb: {called!r}; {prog} knows {', '.join([*table, *_groups(table)])}")
    return int(importlib.import_module(table[verb]).main(rest) or 0)


def _groups(table: Mapping[str, str]) -> Sequence[str]:
    return [*GROUPS] if table is VERBS else []


def _help(prog: str, table: Mapping[str, str]) -> str:
    lines = [f"usage: {prog} VERB ...", "", *(f"  {verb:<15} {_about(module)}" for verb, module in table.items())]
    lines += [f"  {group:<15} {', '.join(GROUPS[group])}" for group in _groups(table)]
    return "\n".join([*lines, "", f"{prog} VERB --help says more."])


def _about(module: str) -> str:
    """The first line of a module's docstring, without importing it."""
    origin = getattr(find_spec(module), "origin", None)
    text = ast.get_docstring(ast.parse(Path(origin).read_text(encoding="utf-8"))) if origin else None
    return (text or "").partition("\n")[0]
