"""Ragged arrays on disk: many variable-length arrays in one memory-mapped file, read without loading.

A shard folder holds ``values.bin`` (the rows of all arrays, one after another), ``offsets.npy`` (where each starts)
and ``index.json`` (dtype, item shape, key). The folder appears only when it is complete. ``key`` names what the rows
depend on (a tokenizer's fingerprint, a feature configuration): reading with another key is an error, never a surprise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from voicegraft.core.artifacts import atomic_folder
from voicegraft.core.errors import VoicegraftError


class RaggedArray:
    """``array[i]`` is row block ``i`` as a read-only view ``[length_i, *item_shape]``."""

    def __init__(self, folder: Path, key: str | None = None):
        index_path = folder / "index.json"
        if not index_path.is_file():
            raise VoicegraftError(f"no shard at {folder}: run the prepare step that writes it")
        index = json.loads(index_path.read_text())
        if key is not None and index["key"] != key:
            raise VoicegraftError(
                f"the shard {folder} was made for {index['key']!r}, but {key!r} is in use: delete it and prepare again"
            )
        self.key: str = index["key"]
        self.item_shape = tuple(index["item_shape"])
        self.offsets = np.load(folder / "offsets.npy", allow_pickle=False)
        shape = (int(self.offsets[-1]), *self.item_shape)
        self.values = (
            np.memmap(folder / "values.bin", dtype=index["dtype"], mode="r", shape=shape)
            if shape[0]
            else np.zeros(shape, index["dtype"])
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


def write_ragged(folder: Path, arrays: Iterable[np.ndarray], dtype: str, key: str = "") -> None:
    """Writes the arrays (equal shapes but for the first axis) one by one, so memory stays small."""
    offsets = [0]
    item_shape: tuple[int, ...] = ()
    with atomic_folder(folder, marker="index.json") as draft:
        with (draft / "values.bin").open("wb") as file:
            for array in arrays:
                item_shape = array.shape[1:]
                file.write(np.ascontiguousarray(array, dtype=dtype).tobytes())
                offsets.append(offsets[-1] + len(array))
        np.save(draft / "offsets.npy", np.asarray(offsets, dtype=np.int64))
        (draft / "index.json").write_text(json.dumps({"dtype": dtype, "item_shape": item_shape, "key": key}))
