"""The text front end: written text -> sentences as they are said. A voice pack names its own (``frontend`` in ``pack.json``).

Training reads texts through the same front end as speaking does, so that a model is asked for what it has learnt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from voicegraft.core.errors import VoicegraftError
from voicegraft.text.english.frontend import EnglishFrontend
from voicegraft.text.spoken_form import SpokenForm
from voicegraft.text.verbatim import VerbatimFrontend


class Frontend(Protocol):
    """Another language or another way to read: a class with these, and a line in ``FRONTENDS``."""

    def sentences(self, pieces: Iterable[str], hurry: bool = False) -> Iterator[SpokenForm]:
        """Sentences of a text that may still be arriving in pieces of any size, each as soon as its end is certain.

        Args:
            hurry: the first clause of the first sentence may come alone, since somebody waits for it.
        """
        ...


FRONTENDS: dict[str, type[Frontend]] = {"english": EnglishFrontend, "verbatim": VerbatimFrontend}


def open_frontend(name: str) -> Frontend:
    """
    Raises:
        VoicegraftError: there is none of that name.
    """
    if name not in FRONTENDS:
        raise VoicegraftError(
            f"expected the frontend to be one of {', '.join(FRONTENDS)}, got {name!r}; upgrade voicegraft if a pack names it"
        )
    return FRONTENDS[name]()


def need_spelling(name: str, layout: str) -> None:
    """
    Raises:
        VoicegraftError: the layout spells words in English phones, which the front end's words may have none of.
    """
    open_frontend(name)
    if layout == "guided" and name != "english":
        raise VoicegraftError(
            f"the guided layout spells words in English phones and needs frontend: english, got {name}; "
            "for other languages set speech.layout to plain"
        )


def spoken_text(frontend: Frontend, text: str) -> str:
    """A text as it is said; empty if nothing in it can be."""
    return " ".join(sentence.text for sentence in frontend.sentences([text]) if sentence.parts)
