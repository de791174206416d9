"""Recordings that are held back from training, to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voicegraft.audio.io import read_audio
from voicegraft.audio.level import normalise_level, trim_silence
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.manifest import Utterance, read_corpus
from voicegraft.evaluation.metrics.rates import normalize_transcript
from voicegraft.evaluation.speech.items import Clip


@dataclass(frozen=True)
class HeldBack:
    """A speaker's recordings that no training recipe sees."""

    folder: Path
    clips: tuple[Utterance, ...]

    def read(self, clip: Utterance, sample_rate: int) -> Clip:
        """The recording as training recipes see theirs: silence trimmed, level normalised."""
        samples = read_audio(self.folder / clip.audio, sample_rate).samples
        return Clip(normalise_level(trim_silence(samples, sample_rate), sample_rate), sample_rate)


def find_recordings(folders: Sequence[Path], voices: Sequence[str]) -> dict[str, HeldBack]:
    """Held-back recordings by voice; a speaker is the voice of the same name, in upper or lower case."""
    spelling = {voice.casefold(): voice for voice in voices}
    humans = {}
    for folder in folders:
        clips = [clip for clip in read_corpus(folder) if clip.split != "train" and normalize_transcript(clip.text)]
        for speaker in dict.fromkeys(clip.speaker for clip in clips):
            own = tuple(clip for clip in clips if clip.speaker == speaker)
            humans[spelling.get(speaker.casefold(), speaker)] = HeldBack(folder, own)
    if folders and not humans:
        names = ", ".join(map(str, folders))
        raise VoicegraftError(f"expected recordings that are held back from training in {names}, found none")
    return humans
