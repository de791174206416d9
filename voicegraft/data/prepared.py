"""Prepared speech, as the training recipes read it: shards of audio, mels and pitch with their manifests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.manifest import Utterance, read_manifest
from voicegraft.data.shards import RaggedArray
from voicegraft.text.units import SILENCE, UNIT_CLASS

SAID = "said"  # folder of shards that have tokens and no sound (recipes/say.py)
DONE = "done"  # file that closes a folder of alignments


@dataclass(frozen=True)
class Clip:
    """One utterance of a shard: where its arrays lie, and who says what."""

    folder: Path
    row: int
    utterance: Utterance


def shard_folders(work: Path) -> list[Path]:
    """The finished shards of ``work/speech``; what a killed run left half-made has a name that begins with a dot."""
    folders = (work / "speech").glob("[!.]*")
    return sorted(folder for folder in folders if (folder / "audio" / "index.json").is_file())


def draw_clips(clips: Sequence[Clip], draw: np.random.Generator, count: int) -> list[Clip]:
    """Random clips, with replacement; long ones are likelier."""
    weights = np.asarray([clip.utterance.duration_sec for clip in clips])
    return [clips[i] for i in draw.choice(len(clips), size=count, p=weights / weights.sum())]


class PreparedSpeech:
    """All shards of ``work/speech``; arrays stay on disk until asked for."""

    def __init__(self, work: Path, names: Sequence[str] | None = None, aligned: Path | None = None):
        """``names`` limits the shards (prefixes); ``aligned`` holds manifests with units for recordings."""
        folders = shard_folders(work)
        if names is not None:
            folders = [f for f in folders if f.name.startswith(tuple(names))]
        if not folders:
            raise VoicegraftError(f"no prepared speech in {work / 'speech'}: run voicegraft prepare first")
        self._arrays: dict[tuple[Path, str], RaggedArray] = {}
        self.clips: list[Clip] = []
        for folder in folders:
            better = aligned / folder.name if aligned is not None else folder
            rows = read_manifest(better if (better / "manifest.jsonl").is_file() else folder)
            self.clips += [Clip(folder, i, u) for i, u in enumerate(rows)]
        self.speakers = sorted({c.utterance.speaker for c in self.clips})

    def add_said(self, work: Path) -> None:
        """Adds the shards that have tokens and no sound."""
        for manifest in sorted((work / SAID).glob("*/manifest.jsonl")):
            rows = read_manifest(manifest.parent)
            self.clips += [Clip(manifest.parent, i, u) for i, u in enumerate(rows)]

    def say_in(self, voices: Sequence[str]) -> None:
        """Gives the clips of all other speakers to one of these voices each, whichever; for a teacher's voices."""

        def given(clip: Clip) -> Clip:
            u = clip.utterance
            chosen = u.speaker if u.speaker in voices else random.Random(u.id).choice(voices)
            return replace(clip, utterance=replace(u, speaker=chosen))

        self.clips, self.speakers = [given(clip) for clip in self.clips], list(voices)

    def select(self, split: str, synthetic: bool | None = None) -> list[Clip]:
        """Clips of a split ("train", or "val" for all that is held back), human, synthetic or both."""
        held = split != "train"
        return [
            c
            for c in self.clips
            if (c.utterance.split != "train") == held and (synthetic is None or c.utterance.synthetic == synthetic)
        ]

    def array(self, clip: Clip, kind: str) -> np.ndarray:
        """``kind``: "audio" int16 ``[T]``, "mel" float16 ``[T, M]`` at 100 Hz, "pitch" float16 ``[T]`` at 50 Hz.

        Raises VoicegraftError where the shard has no mel or pitch, which only voicegraft's own tokenizers are trained on.
        """
        key = (clip.folder, kind)
        if key not in self._arrays:
            if not (clip.folder / kind / "index.json").is_file():
                raise VoicegraftError(
                    f"{clip.folder} has audio but no {kind}, which this step reads: run the same voicegraft prepare again "
                    "with --features, which adds it"
                )
            self._arrays[key] = RaggedArray(clip.folder / kind)
        return self._arrays[key][clip.row]

    def samples(self, clip: Clip) -> np.ndarray:
        """Float samples ``[T]`` in [-1, 1]."""
        return self.array(clip, "audio") / np.float32(32768)

    def rate(self, clip: Clip) -> int:
        """Hz of a clip's samples.

        Raises VoicegraftError where the shard does not say so.
        """
        self.array(clip, "audio")
        return pcm_rate(clip.folder, self._arrays[clip.folder, "audio"])


def pcm_rate(folder: Path, audio: RaggedArray) -> int:
    """Hz of a shard's audio.

    Raises VoicegraftError where its key does not say so.
    """
    form, _, rate = audio.key.partition("-")
    if form != "pcm" or not rate.isdigit():
        raise VoicegraftError(f"expected audio with the key pcm-RATE in {folder}, found {audio.key!r}: prepare it anew")
    return int(rate)


def newest_alignments(work: Path) -> Path | None:
    """The manifests with timed units of the last finished round of the tokenizer's training, if there is one."""
    rounds = [path.parent for path in (work / "alignments").glob(f"round*/{DONE}")]
    return max(rounds, key=lambda folder: int(folder.name.removeprefix("round")), default=None)


def frame_counts(utterance: Utterance, num_frames: int, frame_rate: float) -> np.ndarray:
    """Frames of each unit ``[num_units]``, summing to ``num_frames``; every phone keeps at least one frame."""
    ends = np.round(np.asarray(utterance.unit_ends_sec) * frame_rate).astype(np.int64)
    least = np.asarray([unit in UNIT_CLASS and UNIT_CLASS[unit] != SILENCE for unit in utterance.units], dtype=np.int64)
    ends[-1] = num_frames
    for i in range(len(ends)):  # forwards: no phone is empty
        ends[i] = max(ends[i], (ends[i - 1] if i else 0) + least[i])
    limit = num_frames
    for i in range(len(ends) - 1, -1, -1):  # backwards: all fit
        ends[i] = min(ends[i], limit)
        limit = ends[i] - least[i]
    return np.diff(ends, prepend=0)


def frame_classes(utterance: Utterance, num_frames: int, frame_rate: float) -> np.ndarray:
    """Phone class of every frame ``[num_frames]``; -100 throughout when the utterance is not aligned."""
    if not utterance.units:
        return np.full(num_frames, -100, dtype=np.int64)
    counts = frame_counts(utterance, num_frames, frame_rate)
    return np.repeat([UNIT_CLASS[u] for u in utterance.units], counts)
