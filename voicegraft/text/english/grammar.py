"""The English grammars: numbers, money, dates, times, telephone numbers and measures, as they are spoken.

They are the grammars of NVIDIA's nemo_text_processing, compiled once by `tools.build_grammar` and
shipped as arrays. Reading and running them needs neither that package nor its toolkit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import islice, permutations, product
from pathlib import Path
from typing import TYPE_CHECKING

from voicegraft.core.errors import VoicegraftError
from voicegraft.text.english.transducer import Transducer

if TYPE_CHECKING:
    import numpy as np

GRAMMAR_FILE = Path(__file__).parent / "data" / "english.npz"
GRAMMAR_FORMAT = 1
_MAX_ORDERS = 720  # of the fields of one token; real ones have at most four, and mostly the first order is right
_PIECES = re.compile(r'(\w+): "([^"]*)"|(\w+) \{|(\})|(preserve_order): true')

# The tagger says what each token is, as a tree of named fields: {"time": {"hours": "five", "suffix": "PM"}}.
Fields = dict[str, "str | Fields"]


class Grammar:
    """A tagger, which finds and classifies what is more than ordinary words, and a verbaliser, which says it."""

    def __init__(self, tagger: Transducer, verbaliser: Transducer) -> None:
        self._tagger = tagger
        self._verbaliser = verbaliser

    @staticmethod
    @cache
    def load(path: Path = GRAMMAR_FILE) -> Grammar:
        """Reads a compiled grammar, once per process.

        Raises:
            VoicegraftError: the file is missing, corrupt or of another format.
        """
        import numpy as np

        advice = "reinstall voicegraft, or rebuild it with `python -m tools.build_grammar`"
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            found = int(arrays["format"])
            parts = [Transducer(_part(arrays, name)) for name in ("tagger", "verbaliser")]
        except FileNotFoundError:
            raise VoicegraftError(f"expected the English grammar at {path}, found nothing; {advice}") from None
        except Exception as error:  # a corrupt archive fails in many ways
            raise VoicegraftError(f"cannot read the English grammar {path}: {error}; {advice}") from error
        if found != GRAMMAR_FORMAT:
            raise VoicegraftError(
                f"expected the English grammar {path} in format {GRAMMAR_FORMAT}, found {found}; {advice}"
            )
        return Grammar(*parts)

    def say(self, text: str) -> str | None:
        """The spoken form of a short text without double quotes; None where the grammar knows none."""
        tagged = self._tagger.apply(text)
        if tagged is None:
            return None
        words = []
        for token in _parse(tagged):
            name = token.get("name")
            spoken = name if isinstance(name, str) else self._verbalise(token)
            if spoken is None:
                return None
            words.append(spoken.replace("\u00a0", " ").strip())
        return " ".join(word for word in words if word)

    def _verbalise(self, token: Fields) -> str | None:
        for order in islice(_orders(token), _MAX_ORDERS):
            spoken = self._verbaliser.apply(f"tokens {{ {order} }}")
            if spoken is not None:
                return spoken
        return None


def _part(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}


def _parse(tagged: str) -> list[Fields]:
    """Reads `tokens { time { hours: "five" } } tokens { name: "now" }` as one field tree per token."""
    tokens: list[Fields] = []
    open_fields: list[Fields] = []
    for piece in _PIECES.finditer(tagged):
        key, value, opened, closed, ordered = piece.groups()
        if key:
            if open_fields:
                open_fields[-1][key] = value
        elif ordered:
            open_fields[-1][ordered] = "true"
        elif closed:
            open_fields.pop()
        elif not open_fields:
            tokens.append({})
            open_fields.append(tokens[-1])
        else:
            inner: Fields = {}
            open_fields[-1][opened] = inner
            open_fields.append(inner)
    return tokens


def _orders(fields: Fields) -> Iterator[str]:
    """The ways to write the fields down: the verbaliser wants them in an order of its own."""
    items = list(fields.items())
    for arrangement in [tuple(items)] if "preserve_order" in fields else permutations(items):
        written = []
        for key, value in arrangement:
            if key == "preserve_order":
                written.append([f"{key}: true"])
            elif isinstance(value, str):
                written.append([f'{key}: "{value}"'])
            else:
                written.append([f"{key} {{ {inner} }}" for inner in islice(_orders(value), _MAX_ORDERS)])
        for choice in product(*written):
            yield " ".join(choice)
