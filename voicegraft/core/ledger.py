"""Rows on disk that an interrupted run goes on from: JSON lines, each under a key, all of one identity."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from voicegraft.core.errors import VoicegraftError

Row = dict[str, Any]


class Ledger:
    """A file that grows by whole lines, so that a run killed at any byte loses no more than the row it was writing.

    The first line holds the identity, what all rows depend on: the rows of two packs, judges or settings never mix. Without an
    identity there is no such line, and whoever reads the rows tells them apart.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any] | None = None, keys: Sequence[str] = ("key",)) -> None:
        """
        Args:
            keys: the fields of a row that make its key. A later row replaces an earlier one of the same key.

        Raises:
            VoicegraftError: the file holds rows of another identity or something else, or cannot be written.
        """
        self.path = path
        self.rows: dict[tuple[Any, ...], Row] = {}
        self._keys = tuple(keys)
        try:
            lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
            rows = [json.loads(line) for line in lines]
            now = json.loads(json.dumps(identity))  # tuples are lists there
            known = rows.pop(0)["identity"] if identity is not None and rows else now
            self.rows = {self._key(row): row for row in rows}
            differing = differences(known, now)
        except OSError as error:
            raise VoicegraftError(f"cannot read {path}: {error.strerror}; choose another folder") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise VoicegraftError(f"{path} is no ledger of such rows ({error!r}); remove it") from error
        if differing:
            raise VoicegraftError(
                f"{path} holds rows of other settings ({'; '.join(differing)}); choose another output folder or remove the file"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.truncate(sum(len(line) + 1 for line in lines))  # the rest is a torn line
                if not lines and identity is not None:
                    file.write(json.dumps({"identity": identity}, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise VoicegraftError(f"cannot write to {path.parent}: {error.strerror}; choose another folder") from error

    def add(self, row: Row) -> None:
        """Keeps a row, on disk first."""
        key = self._key(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.rows[key] = row

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """The value of this key as JSON holds it; made, once, if it is not there (for a ledger with one field as key)."""
        if (key,) not in self.rows:
            self.add(json.loads(json.dumps({self._keys[0]: key, "value": make()})))
        return self.rows[key,]["value"]

    def _key(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in self._keys)


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Where two JSON values differ, such as ``seed was 0, now 1``; settings that only the older one has do not count."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        parts = ((f"{name} {key}".strip(), before.get(key), value) for key, value in now.items())
        return [told for key, old, new in parts for told in differences(old, new, key)]
    return [] if before == now else [f"{name} was {before!r}, now {now!r}"]
