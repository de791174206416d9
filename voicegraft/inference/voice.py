"""Voices: those that a pack names, and one made like a recording of a few seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from voicegraft.acoustic.acoustic_lm import AcousticLM
from voicegraft.acoustic.voice_encoder import VoiceEncoder
from voicegraft.audio.io import open_audio, read_frames, to_mono
from voicegraft.audio.level import loud_frames, normalise_level, trim_silence
from voicegraft.audio.pitch import track_pitch
from voicegraft.core.artifacts import fingerprint
from voicegraft.core.errors import VoicegraftError

LEAST_SEC = 1.0  # of sound in a recording that a voice is made like
LEAST_VOICED = 0.1  # share of it that has a pitch: noise has none
MOST_SEC = 30.0  # of a recording that are heard; more tell nothing new
NARROW_HZ = 16_000  # a recording of a lower rate lacks what lies above half of it


@dataclass(frozen=True, eq=False)
class Voice:
    """How speech sounds, and in which of the pack's voices' manner it is spoken: melody, pace and accent."""

    name: str  # of the pack's voice
    vector: np.ndarray  # [voice_width], of length one
    like: str = ""  # the recording that it was made like
    warnings: tuple[str, ...] = ()

    @property
    def comment(self) -> str:
        """What a file of this voice says of itself."""
        return f"synthetic speech (voicegraft), made like {Path(self.like).name}" if self.like else ""


def voice_like(acoustic: AcousticLM, encoder: VoiceEncoder, recording: Path) -> Voice:
    """The voice of whoever speaks in a recording, in the manner of the pack's voice that is nearest.

    Raises:
        VoicegraftError: it cannot be read, there is not enough to hear in it, or the encoder is not the acoustic LM's.
    """
    if fingerprint(encoder.state_dict()) != acoustic.config.voice_encoder:
        raise VoicegraftError("the pack's voice encoder is not the one its acoustic LM was trained with; get both anew")
    if not recording.is_file():
        found = "a folder" if recording.is_dir() else "nothing"
        raise VoicegraftError(f"expected a recording to speak like at {recording}, found {found}; check the path")
    with open_audio(recording, str(recording)) as file:
        rate = file.samplerate
        frames = read_frames(file, str(recording), duration_sec=MOST_SEC)
        longer = file.frames > len(frames)
    wanted = encoder.config.mel.sample_rate
    samples = to_mono(frames, rate, wanted).samples
    heard = loud_frames(samples, wanted).sum() / 50 if np.abs(samples).max() > 1e-3 else 0.0
    if heard < LEAST_SEC:
        where = f"in its first {MOST_SEC:g} s " if longer else ""
        raise VoicegraftError(
            f"{recording} {where}holds {heard:.1f} s of sound that can be heard: expected {LEAST_SEC:g} s or more of one "
            "person speaking, best 5 to 20 s"
        )
    voiced = ~track_pitch(torch.from_numpy(samples), wanted, wanted // 100).isnan()
    if float(voiced.sum()) / 100 < LEAST_VOICED * heard:
        raise VoicegraftError(f"{recording} holds no voice, only noise: expected one person speaking")
    warnings = []
    if longer:
        warnings.append(f"of {recording.name} the first {MOST_SEC:g} s are heard")
    if rate < NARROW_HZ:
        warnings.append(
            f"{recording.name} has {rate} Hz, so the voice will sound muffled; 16,000 Hz or more are better"
        )
    with torch.inference_mode():
        level = normalise_level(trim_silence(samples, wanted), wanted)
        vector = encoder.encode(torch.from_numpy(level)[None])[0].float().numpy()
    near = max(acoustic.config.voices, key=lambda name: float(acoustic.named_voice(name) @ vector))
    return Voice(near, vector, str(recording), tuple(warnings))
