"""What an LLM answered to transcripts, on disk: rows with their tokens and the likeliest alternatives to each.

A folder holds ``block-00000.safetensors`` and on. Each is whole or not there: the rows as JSON in its header, the tokens of all
its answers one after another, and for those that have them, the ``k`` likeliest tokens of every step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from transformers import PreTrainedTokenizerBase

from voicegraft.core.config import from_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message
from voicegraft.data.chat import encode, stop_ids

_ROWS = "rows"


@dataclass(frozen=True)
class Response:
    """One row. What stands in its prompt is ``wording`` with the transcript, or the speech, in its place."""

    task: str
    wording: str  # with {audio} where the transcript stands; without it the row is text alone
    text: str  # the transcript; empty in a row of text alone
    reply: str
    split: str = "train"  # train, val or test: the transcript's
    origin: str = ""  # where the transcript comes from
    licence: str = ""  # of the transcript
    writer: str = ""  # the LLM that wrote the reply; empty: it came with the data
    reason: str = ""  # why it is not used; empty: it is
    ended: bool = True  # False: the reply was cut
    history: tuple[tuple[str, str], ...] = ()  # (role, text) of earlier turns

    @property
    def turns(self) -> list[Message]:
        said = {"system": Message.system, "user": Message.user, "assistant": Message.assistant}
        return [said[role](text) for role, text in self.history]


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of a reply, the one that ends it included; none where it was not written token by token (``UNKNOWN``)."""

    ids: np.ndarray  # [L] int32
    top_ids: np.ndarray | None = None  # [L, k] int32, likeliest first; -1: none
    top_logprobs: np.ndarray | None = None  # [L, k] float16


UNKNOWN = Tokens(np.zeros(0, dtype=np.int32))


def written(tokenizer: PreTrainedTokenizerBase, reply: str) -> Tokens:
    """Of a reply that nobody made token by token."""
    said = reply if tokenizer.chat_template is not None else f" {reply}"  # as `data.chat` writes answers
    ids = [*encode(tokenizer, said), *stop_ids(tokenizer)[-1:]]
    return Tokens(np.asarray(ids, dtype=np.int32))


def block_file(folder: Path, number: int) -> Path:
    return folder / f"block-{number:05d}.safetensors"


def write_block(folder: Path, number: int, rows: Sequence[tuple[Response, Tokens]]) -> None:
    """Writes a block in one move; rows with alternatives must have as many of them."""
    width = max((t.top_ids.shape[1] for _, t in rows if t.top_ids is not None), default=0)
    arrays = {
        "ids": np.concatenate([t.ids.astype(np.int32) for _, t in rows]),
        "lengths": np.asarray([len(t.ids) for _, t in rows], dtype=np.int32),
        "has_top": np.asarray([t.top_ids is not None for _, t in rows]),
    }
    if width:
        tops = [t for _, t in rows if t.top_ids is not None and t.top_logprobs is not None]
        arrays["top_ids"] = np.concatenate([t.top_ids for t in tops if t.top_ids is not None])
        arrays["top_logprobs"] = np.concatenate([t.top_logprobs for t in tops if t.top_logprobs is not None])
    folder.mkdir(parents=True, exist_ok=True)
    path = block_file(folder, number)
    part = path.with_name(f".{path.name}.part")
    save_file(arrays, part, {_ROWS: json.dumps([asdict(row) for row, _ in rows], ensure_ascii=False)})
    os.replace(part, path)


def read_block(path: Path) -> Iterator[tuple[Response, Tokens]]:
    """
    Raises:
        VoicegraftError: the file is damaged or something else.
    """
    try:
        with safe_open(path, framework="np") as file:
            rows = json.loads((file.metadata() or {})[_ROWS])
            arrays: Mapping[str, np.ndarray] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        ends = np.cumsum(arrays["lengths"])
        top_ends = np.cumsum(np.where(arrays["has_top"], arrays["lengths"], 0))
        responses = [from_dict(Response, row, origin=str(path)) for row in rows]
        if not len(responses) == len(ends) == len(arrays["has_top"]) or (len(ends) and ends[-1] != len(arrays["ids"])):
            raise ValueError("its rows and its tokens do not fit")
    except (OSError, SafetensorError, LookupError, ValueError, TypeError) as error:
        raise VoicegraftError(f"{path} holds no responses ({error}); remove it and run recipe imitate again") from error
    for i, response in enumerate(responses):
        length = int(arrays["lengths"][i])
        own = slice(int(ends[i]) - length, int(ends[i]))
        if not arrays["has_top"][i]:
            yield response, Tokens(arrays["ids"][own])
            continue
        top = slice(int(top_ends[i]) - length, int(top_ends[i]))
        yield response, Tokens(arrays["ids"][own], arrays["top_ids"][top], arrays["top_logprobs"][top])


def read_responses(folder: Path, kept: bool = True) -> Iterator[tuple[Response, Tokens]]:
    """All rows of a folder, or those alone that are used.

    Raises:
        VoicegraftError: there are none, or a block is damaged.
    """
    paths = sorted(folder.glob("block-*.safetensors"))
    if not paths:
        raise VoicegraftError(f"no responses in {folder}: run voicegraft recipe imitate first")
    for path in paths:
        yield from (pair for pair in read_block(path) if not kept or not pair[0].reason)
