"""The word lists of the English front end, as `data/words.ini` has them."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

WORDS_FILE = Path(__file__).parent / "data" / "words.ini"
_FILE = ConfigParser(delimiters="=", comment_prefixes="#", interpolation=None)
_FILE.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their capitals
_FILE.read_string(WORDS_FILE.read_text(encoding="utf-8"))


def table(name: str) -> dict[str, str]:
    """Written -> spoken."""
    return dict(_FILE[name])


def word_set(name: str) -> frozenset[str]:
    """The words of a list."""
    return frozenset(_FILE["lists"][name].split())
