"""Tasks that a text LLM does with a transcript, in several wordings: to be learnt with speech, and for the benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from voicegraft.core.config import from_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message, Part

TASKS = Path(__file__).with_name("listening_tasks.yaml")
HEARD = "{audio}"  # where what is heard stands in a wording
REPEAT = "repeat"  # the task whose right answer is the transcript itself: recognition


@dataclass(frozen=True)
class ListeningTask:
    """What is asked of a text. An instruction stands before the audio: a small LLM forgets one behind it."""

    trained: tuple[str, ...] = ()  # wordings of training; none: the whole task is kept for the benchmark
    held_out: tuple[str, ...] = ()  # wordings of the benchmark alone
    of: Literal["all", "questions", "statements"] = "all"  # texts that it makes sense for
    small: bool = False  # whether an LLM of 135 M parameters can do it in text
    form: Literal["text", "qa"] = "text"  # qa: the LLM makes up a question and its answer, as JSON in one line
    name: str = ""  # the key in the file

    def __post_init__(self) -> None:
        if not (self.trained or self.held_out):
            raise ValueError("expected at least one wording, trained or held_out")
        for wording in (*self.trained, *self.held_out):
            # On a line of its own it is cut into the same tokens whether or not it is replaced by speech.
            if sum(line == HEARD for line in wording.splitlines()) != 1 or wording.count(HEARD) != 1:
                raise ValueError(f"expected {HEARD} once in a wording, on a line of its own, got {wording!r}")

    def suits(self, text: str) -> bool:
        return self.of == "all" or text.rstrip(" \"'").endswith("?") == (self.of == "questions")


def load_tasks(path: Path | None = None, names: Sequence[str] = ()) -> dict[str, ListeningTask]:
    """The tasks of a YAML file, of the packaged one without; those of ``names`` alone where there are some.

    Raises:
        VoicegraftError: no such file, not such tasks, or no task of that name.
    """
    path = path or TASKS
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        tasks = {str(name): {**entry, "name": str(name)} for name, entry in raw.items()}
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise VoicegraftError(
            f"cannot read tasks of {path}: {error}; expected a mapping of names to wordings"
        ) from error
    if unknown := [name for name in names if name not in tasks]:
        raise VoicegraftError(f"{path} has no task {', '.join(unknown)}; it has {', '.join(tasks)}")
    chosen = names or tasks
    return {name: from_dict(ListeningTask, tasks[name], origin=f"{path} {name}") for name in chosen}


def prompt_of(wording: str, *heard: Part, history: Sequence[Message] = ()) -> list[Message]:
    """What the user says: the wording with what is heard, text or audio, in its place; behind what was said before.

    A wording without that place is text alone.
    """
    before, place, after = wording.partition(HEARD)
    parts = (before, *heard, after) if place else (wording,)
    said = [part for part in parts if not isinstance(part, str) or part]
    return [*history, Message.user(*(said or [""]))]
