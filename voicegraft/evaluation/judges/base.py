"""What judges of speech have in common: small protocols, and the sound that all of them get."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from voicegraft.audio.level import normalise_level
from voicegraft.evaluation.packages import need

JUDGE_RATE = 16_000  # Hz; all judges were trained at this rate
JUDGE_RMS = 10 ** (-26 / 20)  # active speech level, -26 dB below full scale as in ITU-T P.800 listening tests
MOS_KEYS = ("ovrl", "sig", "bak", "p808")
MIN_SAMPLES = JUDGE_RATE // 10  # a tenth of a second; less holds nothing to judge


class Recognizer(Protocol):
    @property
    def name(self) -> str:
        """Who it is, its size and settings, for reports."""

    def transcribe(self, samples: np.ndarray, sample_rate: int) -> str:
        """Samples [T] -> the words heard, "" for none."""


class MosPredictor(Protocol):
    def score(self, samples: np.ndarray, sample_rate: int) -> dict[str, float]:
        """Samples [T] -> predicted opinion scores (1 to 5): ovrl and maybe more of MOS_KEYS; empty without sound."""


class SpeakerJudge(Protocol):
    def embed(self, samples: np.ndarray, sample_rate: int) -> np.ndarray | None:
        """Samples [T] -> unit vector [D] of the voice, None if there is no voice."""


class FaultJudge(Protocol):
    def faults(self, samples: np.ndarray, sample_rate: int, text: str) -> tuple[str, ...]:
        """Samples [T] and the words they should say -> kinds of faults, such as repeat, skip, truncation, noise."""


@dataclass(frozen=True)
class Judges:
    """One judge of each kind, loaded once for a whole evaluation."""

    recognizer: Recognizer
    mos: MosPredictor
    speaker: SpeakerJudge
    faults: FaultJudge | None = None
    # Hears the words too, and is reported beside the recognizer; its texts are in normalize_transcript's form.
    pocketsphinx: Recognizer | None = None
    # How a benchmark or the recognizer brings texts into one form; None: normalize_transcript, with digits as they are spoken.
    normalize: Callable[[str], str] | None = None
    names: Mapping[str, str] = field(default_factory=dict)  # kind of judge -> who it is, for reports


def judge_samples(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """What every judge gets: float32 [T'] at JUDGE_RATE and the level JUDGE_RMS.

    One level for all, because background noise grows with it for DNSMOS: turning the same recordings up from
    a peak of 0.2 to 0.9 cost 0.35 points.
    """
    samples = np.asarray(samples, np.float32)
    if sample_rate != JUDGE_RATE and len(samples):
        samples = need("soxr").resample(samples, sample_rate, JUDGE_RATE)
    return normalise_level(samples, JUDGE_RATE, rms=JUDGE_RMS)


def silent(samples: np.ndarray) -> bool:
    """Whether there is nothing to judge in samples [T] at JUDGE_RATE."""
    return len(samples) < MIN_SAMPLES or not np.any(samples)
