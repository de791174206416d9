"""YAML -> nested frozen dataclasses, with every key and type checked.

A config class is an ordinary frozen dataclass; its annotations are the schema. Understood are `int`, `float`,
`bool`, `str`, `Path`, `Literal`, enums, `tuple`, `list`, `dict[str, X]`, `X | None`, other unions (the first
member that fits) and nested dataclasses. Contradictions between fields belong in `__post_init__` as a
`ValueError`; it is reported with the file and the key.
"""

import dataclasses
import difflib
import enum
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from voicegraft.core.errors import VoicegraftError

T = TypeVar("T")
_BOOL = "tag:yaml.org,2002:bool"
_MODULES = re.compile(r"\b(?:\w+\.)+(?=\w)")  # before the name of a type


class _Loader(yaml.SafeLoader):
    """With the booleans of YAML 1.2, ``true`` and ``false``: ``precision: no`` is a word."""


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in known if tag != _BOOL]
    for letter, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def load_config(cls: type[T], path: Path | str | None, overrides: Sequence[str] = ()) -> T:
    """Reads a YAML file into `cls`, then applies overrides.

    Args:
        path: the YAML file; None starts from the defaults of `cls`.
        overrides: `key=value` or `section.key=value`; the value is read as YAML.

    Raises:
        VoicegraftError: unreadable file, malformed YAML or override, unknown key (the nearest valid one is
            named), missing key, value of a wrong type, or values that contradict each other.
    """
    data: Any = {} if path is None else _read_yaml(Path(path))
    origin = "the defaults" if path is None else str(path)
    if not isinstance(data, dict):
        raise VoicegraftError(f"{origin}: expected a mapping of keys to values, got {_describe(data)}")
    changed = set()
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals or not all(key.split(".")):
            raise VoicegraftError(f"expected override key=value or section.key=value, got {override!r}")
        try:
            value = _Loader(text).get_single_data()
        except yaml.YAMLError as error:
            raise VoicegraftError(f"override {override!r} is not valid YAML: {_one_line(error)}") from error
        _assign(data, key.split("."), value)
        changed.add(key)
    return _Reader(origin, frozenset(changed)).build(cls, data, ())


def from_dict(cls: type[T], data: Mapping[str, Any], origin: str = "config") -> T:
    """Builds `cls` from plain values, checked as in `load_config`; `origin` names their source in errors."""
    return _Reader(origin, frozenset()).build(cls, data, ())


def to_dict(obj: Any) -> Any:
    """The plain JSON and YAML values of a config, for `from_dict`: tuples become lists, paths strings."""
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return {f.name: to_dict(getattr(obj, f.name)) for f in dataclasses.fields(obj) if f.init}
    if isinstance(obj, enum.Enum):
        return to_dict(obj.value)
    if isinstance(obj, Path):
        return str(obj)
    if isinstance(obj, Mapping):
        return {str(key): to_dict(value) for key, value in obj.items()}
    if isinstance(obj, tuple | list):
        return [to_dict(value) for value in obj]
    if obj is None or isinstance(obj, bool | int | float | str):
        return obj
    raise TypeError(f"a config may hold plain values only, not {type(obj).__name__}")


class _Mismatch(Exception):
    """A value does not fit its annotation; becomes a VoicegraftError once its place is known."""


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Checks and converts; remembers where values come from, for the error messages."""

    origin: str
    overridden: frozenset[str]  # dotted keys set on the command line

    def build(self, cls: type[T], data: Mapping[str, Any], path: tuple[str, ...]) -> T:
        if not isinstance(data, Mapping):
            raise self._error(path, f"expected the keys of {cls.__name__}, got {_describe(data)}")
        hints = typing.get_type_hints(cls)
        fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
        for key in data:
            if key not in fields:
                near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.5)
                advice = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(fields)}"
                raise self._error((*path, str(key)), f"unknown key; {advice}")
        values = {}
        for name, field in fields.items():
            if name in data:
                try:
                    values[name] = self._convert(hints[name], data[name], (*path, name))
                except _Mismatch as error:
                    raise self._error((*path, name), str(error)) from None
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise self._error((*path, name), f"is missing; expected {type_name(hints[name])}")
        try:
            return cls(**values)
        except ValueError as error:
            raise self._error(path, str(error)) from error

    def _convert(self, hint: Any, value: Any, path: tuple[str, ...]) -> Any:
        generic, args = typing.get_origin(hint), typing.get_args(hint)
        if hint is Any:
            return value
        if generic is typing.Literal:
            if value in args:
                return value
        elif generic in (typing.Union, types.UnionType):
            return self._convert_union(args, value, path)
        elif generic in (tuple, list):
            return self._convert_sequence(hint, value, path)
        elif generic in (dict, Mapping):
            if isinstance(value, Mapping):
                return {str(k): self._convert(args[1], v, (*path, str(k))) for k, v in value.items()}
        elif hint is type(None):
            if value is None:
                return None
        elif dataclasses.is_dataclass(hint):
            if isinstance(value, Mapping):
                return self.build(typing.cast(type, hint), value, path)
        elif isinstance(hint, type) and issubclass(hint, enum.Enum):
            if value in [member.value for member in hint]:
                return hint(value)
        elif hint is Path:
            if isinstance(value, str):
                return Path(value)
        elif hint is float:
            # YAML 1.1 reads 1e-4 as a string: only 1.0e-4 is a number to it. People write the former.
            if isinstance(value, int | float | str) and not isinstance(value, bool):
                try:
                    return float(value)
                except ValueError:
                    pass
        elif hint in (bool, int, str):
            if type(value) is hint:
                return value
        else:
            raise TypeError(f"{'.'.join(path)}: a config field cannot be of type {type_name(hint)}")
        raise _Mismatch(f"expected {type_name(hint)}, got {_describe(value)}")

    def _convert_union(self, args: tuple[Any, ...], value: Any, path: tuple[str, ...]) -> Any:
        if value is None and type(None) in args:
            return None
        members = [arg for arg in args if arg is not type(None)]
        for member in members[:-1]:
            try:
                return self._convert(member, value, path)
            except (_Mismatch, VoicegraftError):
                continue
        return self._convert(members[-1], value, path)  # the last member's complaint is the one reported

    def _convert_sequence(self, hint: Any, value: Any, path: tuple[str, ...]) -> Any:
        generic, args = typing.get_origin(hint), typing.get_args(hint)
        if not isinstance(value, list | tuple):
            advice = f"; write {'.'.join(path)}=[{value}]" if isinstance(value, str) and value else ""
            raise _Mismatch(f"expected {type_name(hint)}, got {_describe(value)}{advice}")
        if generic is list or (len(args) == 2 and args[1] is Ellipsis):
            args = (args[0],) * len(value)
        if len(args) != len(value):
            raise _Mismatch(f"expected {len(args)} items, got {len(value)}")
        return generic(self._convert(arg, item, path) for arg, item in zip(args, value, strict=True))

    def _error(self, path: tuple[str, ...], message: str) -> VoicegraftError:
        key = ".".join(path)
        # An override of a whole section owns the keys below it.
        prefixes = (".".join(path[:end]) for end in range(1, len(path) + 1))
        origin = "command line" if any(prefix in self.overridden for prefix in prefixes) else self.origin
        return VoicegraftError(f"{origin}: {key}: {message}" if key else f"{origin}: {message}")


def _read_yaml(path: Path) -> Any:
    try:
        data = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except OSError as error:
        raise VoicegraftError(f"cannot read config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VoicegraftError(f"{path} is not valid YAML: {_one_line(error)}") from error
    return {} if data is None else data


def _assign(data: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        if not isinstance(data.get(key), dict):
            data[key] = {}
        data = data[key]
    data[keys[-1]] = value


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    return "nothing" if value is None else f"{value!r} ({type(value).__name__})"


def type_name(hint: Any) -> str:
    """A type as errors and help show it."""
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(str(arg) or "''" for arg in typing.get_args(hint))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "one of " + ", ".join(str(member.value) for member in hint)
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else _MODULES.sub("", str(hint))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
