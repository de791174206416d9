"""Command lines from dataclasses: fields are the keys or options, their inline comments the help.

Two spellings, one source: ``[CONFIG.yaml] [key=value ...]`` for what has many nested keys, and ``--option value`` for verbs.
Both are checked by `voicegraft.core.config`, with its errors. (tyro reads such dataclasses too, but no ``key=value`` with YAML
values over a file; it tells a mistake in a box of several lines, and brings three more packages.)
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import io
import sys
import textwrap
import tokenize
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from voicegraft.core.config import from_dict, load_config, to_dict, type_name
from voicegraft.core.errors import VoicegraftError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Key:
    """One value of a config, as help shows it."""

    name: str  # dotted, from the outermost dataclass; [] stands for each item of a list
    hint: Any
    default: str | None  # as YAML; empty: its own keys have defaults; None: it must be given
    comment: str

    def __str__(self) -> str:
        default = "  (required)" if self.default is None else f" = {self.default}" if self.default else ""
        return f"  {self.name}: {type_name(self.hint)}{default}" + (f"\n      {self.comment}" if self.comment else "")


def read_keys(
    cls: type[T], argv: Sequence[str] | None, doc: str | None, find: Callable[[str], Path] = Path, prog: str = ""
) -> T:
    """Reads ``[CONFIG.yaml] [key=value ...]`` into `cls`; ``--flag`` is ``flag=true``, ``--help`` shows the keys and exits.

    Args:
        find: the file that the name of a config means.
        prog: the verb as it is called.

    Raises:
        VoicegraftError: two files, an option that is no flag, or what `load_config` finds wrong.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    flags = [name for name, hint in typing.get_type_hints(cls).items() if hint is bool]
    if {"-h", "--help"} & {*arguments}:
        keys = "\n".join(map(str, keys_of(cls)))
        usage = " ".join(["usage:", prog, "[CONFIG.yaml] [key=value ...]", *(f"[{_option(flag)}]" for flag in flags)])
        about = textwrap.dedent(doc or "").strip()
        print(f"{usage}\n\n{about}\n\nKeys, in CONFIG.yaml or as key=value:\n\n{keys}")
        raise SystemExit(0)
    if not arguments and (needed := [key.name for key in keys_of(cls) if key.default is None and "." not in key.name]):
        raise VoicegraftError(f"expected CONFIG.yaml, or key=value of {', '.join(needed)}; --help shows all keys")
    overrides: list[str] = []
    files: list[str] = []
    for argument in arguments:
        key = argument.removeprefix("--").replace("-", "_")
        if argument.startswith("-") and key not in flags:
            raise VoicegraftError(f"expected CONFIG.yaml or key=value, got {argument}; --help shows the keys")
        if argument.startswith("-"):
            overrides.append(f"{key}=true")
        else:
            (overrides if "=" in argument else files).append(argument)
    if len(files) > 1:
        raise VoicegraftError(f"expected at most one config file, got {', '.join(files)}")
    return load_config(cls, find(files[0]) if files else None, overrides)


def read_options(
    cls: type[T],
    argv: Sequence[str] | None,
    doc: str | None,
    prog: str,
    positional: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
) -> T:
    """Reads ``--option value ...`` into `cls`; the fields of a nested dataclass are options beside the others.

    Args:
        doc: what the verb does.
        prog: the verb as it is called.
        positional: fields that are given without an option.
        names: field -> option where it is not the field's own name.

    Raises:
        VoicegraftError: a value that does not fit.
        SystemExit: help, or a usage error, as argparse has it.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    names = names or {}
    parser = argparse.ArgumentParser(prog, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    keys = {}
    for key in keys_of(cls):
        field = key.name.rpartition(".")[2]
        if key.default != "":  # else a nested dataclass, whose keys follow
            name = names.get(field, field)
            keys[name] = key
            _add(parser, key, name, field in positional, bool(positional))
    data: dict[str, Any] = {}
    for name, given in vars(parser.parse_args(arguments)).items():
        *outer, last = keys[name].name.split(".")
        inner = data
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = _value(_option(name), keys[name].hint, given)
    return from_dict(cls, data, origin="command line")


def _add(parser: argparse.ArgumentParser, key: Key, name: str, is_positional: bool, beside_positional: bool) -> None:
    many, required = _is_many(key.hint), key.default is None
    about = key.comment
    if key.default not in (None, "null", "false", "[]", "''"):
        about = f"{about} (default: {key.default})".strip()
    options: dict[str, Any] = {"help": about.replace("%", "%%"), "default": argparse.SUPPRESS}
    if is_positional:
        count = ("+" if required else "*") if many else None if required else "?"
        parser.add_argument(name, nargs=count, metavar=name.upper(), **options)
    elif key.hint is bool:
        parser.add_argument(_option(name), dest=name, action="store_true", **options)
    else:
        # An option of several values would take what is given without an option too; there it is given once for each.
        options |= ({"action": "append"} if beside_positional else {"nargs": "+", "action": "extend"}) if many else {}
        parser.add_argument(_option(name), dest=name, metavar=_metavar(key.hint), required=required, **options)


def keys_of(cls: type, prefix: str = "", default: Any = None) -> Iterator[Key]:
    """All keys of a config, those of nested dataclasses under dotted names.

    Args:
        default: an instance that the defaults are taken from; None: they are those of the class.
    """
    hints, comments = typing.get_type_hints(cls), _comments(cls)
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        hint, value = hints[field.name], _default(field) if default is None else getattr(default, field.name)
        key = Key(prefix + field.name, hint, _yaml(value), comments.get(field.name, ""))
        inner = [part for part in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(part)]
        yield dataclasses.replace(key, default="") if inner and value is not dataclasses.MISSING else key
        if inner:
            many = "[]" if _is_many(hint) else ""
            first = (value[0] if value else None) if isinstance(value, tuple | list) else value
            first = first if dataclasses.is_dataclass(first) else None
            yield from keys_of(typing.cast(type, inner[0]), f"{prefix}{field.name}{many}.", first)


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _yaml(value: Any) -> str | None:
    if value is dataclasses.MISSING:
        return None
    text = yaml.safe_dump(to_dict(value), default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _comments(cls: type) -> dict[str, str]:
    """Field -> the comment behind it, or on the lines before it; none where the source is not at hand."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        try:
            source = textwrap.dedent(inspect.getsource(base)) if dataclasses.is_dataclass(base) else ""
        except OSError:
            continue
        lines = source.splitlines()
        comments = {
            token.start[0]: token.string.lstrip("# ")
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                first = node.lineno
                while lines[first - 2].lstrip().startswith("#"):
                    first -= 1
                said = (comments.get(line) for line in range(first, (node.end_lineno or first) + 1))
                found[node.target.id] = " ".join(comment for comment in said if comment)
    return found


def _members(hint: Any) -> tuple[Any, ...]:
    """The types that a value may have, without None."""
    args = typing.get_args(hint)
    return tuple(a for a in args if a is not type(None)) if type(None) in args else (hint,)


def _is_many(hint: Any) -> bool:
    return any(typing.get_origin(member) in (tuple, list) for member in _members(hint))


def _metavar(hint: Any) -> str:
    member = _members(hint)[0]
    if typing.get_origin(member) in (tuple, list):
        member = typing.get_args(member)[0]
    if typing.get_origin(member) is typing.Literal:
        return "{" + ",".join(map(str, typing.get_args(member))) + "}"
    if typing.get_origin(member) is tuple:
        return "NAME=VALUE"
    return {str: "TEXT", Path: "PATH", int: "N", float: "X"}.get(member, "VALUE")


def _value(option: str, hint: Any, given: Any) -> Any:
    """What was written, as the value that YAML would hold."""
    member = _members(hint)[0]
    if isinstance(given, list):
        return [_value(option, typing.get_args(member)[0], text) for text in given]
    if typing.get_origin(member) is tuple:
        name, _, value = given.partition("=")
        if not name or not value:
            raise VoicegraftError(f"expected {option} NAME=VALUE, got {given!r}")
        return [name, value]
    if member in (int, float):
        try:
            return yaml.safe_load(given)
        except yaml.YAMLError:
            return given
    return given


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
