"""Speech as an encoder hears it, computed once: frames and times of tokens on disk, beside the shards they were made of.

``work/features/<key>/<shard>`` holds ``frames``, ``tokens`` and, of a recogniser's decoder, ``transcripts``, each a ragged
array, and ``features.json``, what they are. The key is a fingerprint of all that they depend on but the sound.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voicegraft.core.artifacts import atomic_folder
from voicegraft.core.config import from_dict, to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.prepared import Clip, PreparedSpeech
from voicegraft.data.shards import RaggedArray, write_ragged
from voicegraft.encoders.listening import EncoderSettings

FOLDER = "features"
ABOUT = "features.json"


@dataclass(frozen=True)
class FeaturesHeader:
    """What the features of a shard are."""

    encoder: EncoderSettings
    fingerprint: str  # of the ears
    width: int
    frames_per_sec: float  # Hz, of the encoder; its decoder has a frame per token
    tokenizer: str  # fingerprint of the backbone's
    aligner: str  # fingerprint of the recogniser that timed the tokens


@dataclass(frozen=True, eq=False)
class Encoded:
    """A clip."""

    frames: np.ndarray  # [N, W]
    tokens: np.ndarray  # [M, 3] integers: id, and the frames of the encoder at which it begins and ends
    transcript: str | None


def write_features(folder: Path, header: FeaturesHeader, clips: Iterable[Encoded]) -> None:
    """Writes a shard, clip by clip; it is there when it is whole."""
    tokens: list[np.ndarray] = []
    transcripts: list[np.ndarray] = []

    def frames() -> Iterable[np.ndarray]:
        for clip in clips:
            tokens.append(clip.tokens)
            if clip.transcript is not None:
                transcripts.append(np.frombuffer(clip.transcript.encode(), np.uint8))
            yield clip.frames

    with atomic_folder(folder, marker=ABOUT) as draft:
        write_ragged(draft / "frames", frames(), "float16")
        write_ragged(draft / "tokens", tokens, "int32")
        if transcripts:
            write_ragged(draft / "transcripts", transcripts, "uint8")
        (draft / ABOUT).write_text(json.dumps(to_dict(header), indent=1) + "\n", encoding="utf-8")


def read_header(folder: Path) -> FeaturesHeader:
    """What the features in the folder of a shard are."""
    return from_dict(FeaturesHeader, json.loads((folder / ABOUT).read_text("utf-8")), origin=str(folder / ABOUT))


class HeardSpeech(PreparedSpeech):
    """The clips of ``work/speech`` that ``voicegraft recipe encode`` has encoded; frames stay on disk until asked for."""

    def __init__(self, work: Path, key: str = "") -> None:
        """
        Args:
            key: which features, by the name of their folder in ``work/features``; none: the only ones.

        Raises:
            VoicegraftError: there are none, several and no key, or they do not fit the speech.
        """
        super().__init__(work)
        shards = {path.parent for path in (work / FOLDER).glob(f"{key or '*'}/[!.]*/{ABOUT}")}
        kinds = sorted({shard.parent for shard in shards})
        if len(kinds) != 1:
            found = ", ".join(kind.name for kind in kinds)
            raise VoicegraftError(
                f"there are features of several kinds in {work / FOLDER}: {found}; name one"
                if kinds
                else f"no features {key} in {work / FOLDER}: run voicegraft recipe encode work={work} first"
            )
        self.key = kinds[0].name
        self.header = read_header(min(shards))
        names = {shard.name for shard in shards}
        self.clips = [clip for clip in self.clips if clip.folder.name in names]
        self.speakers = sorted({clip.utterance.speaker for clip in self.clips})
        self._features = kinds[0]
        for name in names:
            check_fits(self._features / name, work / "speech" / name)

    def frames(self, clip: Clip) -> np.ndarray:
        """What the encoder heard ``[N, W]``, float16, memory-mapped."""
        return self._array(clip, "frames")

    def alignment(self, clip: Clip) -> np.ndarray:
        """The text in the backbone's tokens ``[M, 3]``: id, and the frames of the encoder at which each begins and ends."""
        return self._array(clip, "tokens")

    def transcript(self, clip: Clip) -> str | None:
        """What the recogniser wrote, where its decoder was read."""
        if self.header.encoder.reads == "encoder":
            return None
        return self._array(clip, "transcripts").tobytes().decode()

    def _array(self, clip: Clip, kind: str) -> np.ndarray:
        folder = self._features / clip.folder.name
        if (folder, kind) not in self._arrays:
            self._arrays[folder, kind] = RaggedArray(folder / kind)
        return self._arrays[folder, kind][clip.row]


def check_fits(features: Path, speech: Path) -> None:
    """Raises VoicegraftError where a shard's features are not of as many clips as its speech."""
    found, expected = (len(RaggedArray(folder)) for folder in (features / "frames", speech / "audio"))
    if found != expected:
        raise VoicegraftError(f"{features} holds {found} clips, the speech {expected}: delete it and run encode again")
