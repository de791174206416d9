"""Patterns that are compiled when they are first needed: most texts need few of all that there are."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import regex


class _Lazy:
    def __init__(self, compiled: Callable[[], Any]):
        self._compiled = compiled

    def __getattr__(self, name: str) -> Any:
        """What the compiled pattern has of that name; from then on this has it as well."""
        found = getattr(self._compiled(), name)
        setattr(self, name, found)
        return found


def lazy(pattern: str, flags: int = 0) -> re.Pattern[str]:
    return cast("re.Pattern[str]", _Lazy(lambda: re.compile(pattern, flags)))


def lazy_regex(pattern: str) -> regex.Pattern[str]:
    """One that can tell that a match may still come (`partial`); the library loads with the first that is needed."""

    def compiled() -> regex.Pattern[str]:
        import regex

        return regex.compile(pattern)

    return cast("regex.Pattern[str]", _Lazy(compiled))
