"""flite (Black & Lenzo 2001): pronunciations of words, and synthetic speech with exact phone times; pre-training only."""

from __future__ import annotations

import random
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voicegraft.audio.io import read_audio
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.lexicon import Lexicon, place_words
from voicegraft.data.manifest import Utterance
from voicegraft.text.units import PHONES


@dataclass(frozen=True)
class SyntheticConfig:
    num_utterances: int = 14_000  # sentences, each read once
    voices: tuple[str, ...] = ("rms", "slt", "awb", "kal16")  # flite voices
    shares: tuple[float, ...] = (0.45, 0.35, 0.1, 0.1)  # of the sentences, per voice
    slowest: float = 1.25  # duration stretch, drawn uniformly
    fastest: float = 0.95  # duration stretch
    seed: int = 0


def read_aloud(
    number: int, text: str, split: str, lexicon: Lexicon, config: SyntheticConfig, sample_rate: int
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
        split=split,
        duration_sec=len(samples) / sample_rate,
        units=placed[0],
        unit_ends_sec=placed[1],
        synthetic=True,
    )
    return utterance, samples


def flite_lexicon(words: Iterable[str], batch: int = 48) -> Lexicon:
    """Asks flite for each word's phones, many words a call (they come back separated by pauses)."""
    entries: dict[str, tuple[str, ...]] = {}

    def ask(some: Sequence[str]) -> None:
        spoken = flite(". ".join(some) + ".", "kal", ["-ps"])
        groups = [tuple(g.split()) for g in re.split(r"\bpau\b", spoken) if g.strip()]
        if len(groups) == len(some):
            entries.update(zip(some, groups, strict=True))
        elif len(some) > 1:  # an abbreviation swallowed its full stop: halve until it is alone
            ask(some[: len(some) // 2])
            ask(some[len(some) // 2 :])

    todo = sorted(set(words))
    for start in range(0, len(todo), batch):
        ask(todo[start : start + batch])
    return Lexicon({w: p for w, p in entries.items() if p and set(p) <= set(PHONES)})


def flite(text: str, voice: str, options: Sequence[str], out: str = "none") -> str:
    """Runs flite (Black & Lenzo 2001) on one text and returns what it prints."""
    try:
        done = subprocess.run(
            ["flite", "-voice", voice, *options, "-t", text, "-o", out], capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        raise VoicegraftError(
            "flite is not installed: it reads the synthetic pre-training speech and spells the training lexicon "
            "(Debian and Ubuntu: apt-get install flite)"
        ) from error
    except subprocess.CalledProcessError as error:
        raise VoicegraftError(f"flite failed on {text[:60]!r}: {error.stderr.strip()[:200]}") from error
    return done.stdout
