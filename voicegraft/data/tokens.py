"""Token shards, read back clip by clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from voicegraft.data.prepared import Clip
from voicegraft.data.shards import RaggedArray


class Tokens:
    """Token rows of clips: ``tokens(clip)`` is ``[T, K]``; the fingerprint must be the tokenizer's."""

    def __init__(self, work: Path, kind: str, fingerprint: str):
        self.work, self.kind, self.fingerprint = work, kind, fingerprint
        self._shards: dict[str, RaggedArray] = {}

    def __call__(self, clip: Clip) -> np.ndarray:
        return self._shard(clip)[clip.row]

    def length(self, clip: Clip) -> int:
        """Frames T, without reading the tokens."""
        offsets = self._shard(clip).offsets
        return int(offsets[clip.row + 1] - offsets[clip.row])

    def _shard(self, clip: Clip) -> RaggedArray:
        name = clip.folder.name
        if name not in self._shards:
            self._shards[name] = RaggedArray(self.work / "tokens" / self.kind / name, key=self.fingerprint)
        return self._shards[name]
