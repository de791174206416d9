"""The clips that an evaluation makes, as FLAC files beside its rows, so that they can be listened to afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from voicegraft.audio.io import read_audio, write_audio
from voicegraft.evaluation.speech.items import STAGES, Clip, Item


class ClipFolder:
    """FOLDER/STAGE/VOICE/ID.flac. Recordings are not copied; they lie in their corpus."""

    def __init__(self, folder: Path, sample_rate: int) -> None:
        self._folder = folder
        self._sample_rate = sample_rate  # Hz at which clips are read
        self._new: set[Path] = set()

    def save(self, item: Item, clip: Clip) -> None:
        """Keeps a clip that was made, if it holds any sound; the `keep` of `run_items`."""
        if item.stage != STAGES[0] and len(clip.samples):
            path = self._path(*item.key)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, clip.samples, clip.sample_rate)
            self._new.add(path)

    def read(self, row: Mapping[str, Any]) -> Clip | None:
        """The clip of a row, None if it was not kept."""
        path = self._path(row["stage"], row["voice"], row["id"])
        if not path.exists():
            return None
        sound = read_audio(path, self._sample_rate)
        return Clip(sound.samples, sound.sample_rate)

    def drop_new(self, but: Iterable[Mapping[str, Any]]) -> None:
        """Removes what `save` has saved, but for the clips of these rows. What lay there before stays."""
        spared = {self._path(row["stage"], row["voice"], row["id"]) for row in but}
        for path in self._new - spared:
            path.unlink()
        self._new &= spared

    def _path(self, stage: str, voice: str, item: str) -> Path:
        return self._folder / stage.replace(" ", "-") / voice / f"{quote(item, safe=' ')}.flac"
