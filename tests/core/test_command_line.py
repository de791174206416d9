"""Command lines from dataclasses: what help says, what is read, and how mistakes are told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from voicegraft.core.command_line import keys_of, read_keys, read_options
from voicegraft.core.errors import VoicegraftError


@dataclass(frozen=True)
class Loop:
    steps: int = 10  # optimiser steps
    lr: float = 1e-3


@dataclass(frozen=True)
class Base:
    corpora: tuple[str, ...]  # folders, 100 % of them


@dataclass(frozen=True)
class Recipe(Base):
    work: Path | None = None
    mode: Literal["speech", "text"] = (
        "speech"  # what is trained, said in a comment that makes the formatter break the line: it has to be found all the same
    )
    # A long comment
    # stands before its field.
    loop: Loop = field(default_factory=lambda: Loop(steps=7))
    rounds: tuple[Loop, ...] = (Loop(steps=3),)
    voices: tuple[tuple[str, Path], ...] = ()  # name and folder
    plan: bool = False


@dataclass(frozen=True)
class Options:
    texts: tuple[str, ...]  # to be said, 100 % of them
    out: Path  # folder
    limit: int | None = None  # of the texts
    voices: tuple[tuple[str, Path], ...] = ()
    loud: bool = False
    loop: Loop = field(default_factory=Loop)


def options(*argv: str) -> Options:
    return read_options(Options, argv, "Says.", "say", ("texts",), {"limit": "max"})


def test_help_shows_every_key_with_its_type_default_and_comment() -> None:
    shown = {key.name: str(key) for key in keys_of(Recipe)}
    assert shown["corpora"] == "  corpora: tuple[str, ...]  (required)\n      folders, 100 % of them"
    assert shown["work"] == "  work: Path | None = null"
    assert shown["mode"].startswith("  mode: one of speech, text = speech\n      what is trained, said")
    assert shown["loop"] == "  loop: Loop\n      A long comment stands before its field."
    assert shown["loop.steps"] == "  loop.steps: int = 7\n      optimiser steps"  # the recipe's own default
    assert shown["rounds[].steps"].startswith("  rounds[].steps: int = 3")


def test_help_of_keys_ends_the_program_well(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        read_keys(Recipe, ["x.yaml", "--help"], "    Trains.")
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert (
        out.startswith("usage:  [CONFIG.yaml] [key=value ...] [--plan]\n\nTrains.\n\nKeys")
        and "  plan: bool = false" in out
    )


def test_a_file_overrides_and_flags_are_read_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("corpora: [a, b]\nloop: {steps: 5}\n")
    config = read_keys(Recipe, ["loop.lr=0.5", "--plan", "a"], None, lambda name: tmp_path / f"{name}.yaml")
    assert (config.corpora, config.loop, config.plan) == (("a", "b"), Loop(5, 0.5), True)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("b.yaml", "at most one config file, got a.yaml, b.yaml"),
        ("--work", "expected CONFIG.yaml or key=value, got --work"),
        ("--steps=3", "expected CONFIG.yaml or key=value"),
    ],
)
def test_a_bad_argument_is_refused(argument: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("corpora: [a]\n")
    with pytest.raises(VoicegraftError, match=message):
        read_keys(Recipe, ["a.yaml", argument], None, lambda name: tmp_path / name)


def test_options_become_typed_values() -> None:
    given = options("a", "b=c", "--out", "x", "--max", "3", "--voices", "ann=1", "--voices", "ben=2", "--steps", "4")
    assert given == Options(("a", "b=c"), Path("x"), 3, (("ann", Path("1")), ("ben", Path("2"))), loop=Loop(4))
    assert options("a", "--out", "3", "--loud").loud and options("a", "--out", "3").out == Path("3")


def test_help_of_options_says_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        options("--help")
    out = capsys.readouterr().out
    assert stopped.value.code == 0 and "usage: say" in out and "Says." in out
    assert "to be said, 100 % of them" in out and "--max N" in out and "optimiser steps (default: 10)" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("a", "--out", "x", "--max", "many"), "limit: expected int, got 'many'"),
        (("a", "--out", "x", "--voices", "ann"), "expected --voices NAME=VALUE, got 'ann'"),
    ],
)
def test_a_bad_option_is_refused(argv: tuple[str, ...], message: str) -> None:
    with pytest.raises(VoicegraftError, match=message):
        options(*argv)


def test_a_missing_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        options("a")
    assert stopped.value.code == 2 and "--out" in capsys.readouterr().err
