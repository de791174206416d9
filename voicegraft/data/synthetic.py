"""Synthetic speech with exact pronunciations and phone times, from flite voices; pre-training only."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voicegraft.audio.io import read_audio
from voicegraft.data.manifest import Utterance
from voicegraft.data.pronunciation import Lexicon, flite, place_words


@dataclass(frozen=True)
class SyntheticConfig:
    num_utterances: int = 14_000  # sentences, each read once
    voices: tuple[str, ...] = ("rms", "slt", "awb", "kal16")  # flite voices
    shares: tuple[float, ...] = (0.45, 0.35, 0.1, 0.1)  # of the sentences, per voice
    slowest: float = 1.25  # duration stretch, drawn uniformly
    fastest: float = 0.95  # duration stretch
    seed: int = 0


def read_aloud(
    number: int, text: str, lexicon: Lexicon, config: SyntheticConfig, sample_rate: int
) -> tuple[Utterance, np.ndarray] | None:
    """One sentence in a randomly drawn voice and tempo: the utterance and its samples ``[T]`` at ``sample_rate`` Hz.

    The draw depends on the number and the seed alone. None when flite's words and ours cannot be matched.
    """
    draw = random.Random(f"{config.seed}/{number}")
    voice = draw.choices(config.voices, config.shares)[0]
    stretch = draw.uniform(config.fastest, config.slowest)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flite.wav"
        printed = flite(text, voice, ["-psdur", "--setf", f"duration_stretch={stretch:.3f}"], str(path))
        segments = [(p, float(t)) for p, t in (s.split(":") for s in printed.split())]
        placed = place_words(text, lexicon, segments)
        if placed is None:
            return None
        samples = read_audio(path, sample_rate).samples
    utterance = Utterance(
        id=f"flite-{number:06d}",
        audio="",
        text=text,
        speaker=f"flite-{voice}",
        split="val" if number % 100 == 99 else "train",
        duration_sec=len(samples) / sample_rate,
        units=placed[0],
        unit_ends_sec=placed[1],
    )
    return utterance, samples
