"""Stand-ins for judges and for a pack: a voice is a frequency, its words are what it was asked to say."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.judges.base import Judges
from voicegraft.evaluation.reports import speech_page
from voicegraft.inference.report import SpokenSentence

RATE = 24_000
PITCH = {"ann": 200, "bob": 400}


def tone(pitch: float, num_words: int) -> np.ndarray:
    """A fifth of a second per word."""
    time = np.arange(num_words * RATE // 5) / RATE
    return (0.5 * np.cos(2 * np.pi * pitch * time)).astype(np.float32)


class CountingRecognizer:
    """Hears "word" five times a second."""

    num_calls = 0

    def transcribe(self, samples: np.ndarray, sample_rate: int) -> str:
        self.num_calls += 1
        return " ".join(["word"] * round(5 * len(samples) / sample_rate))


class LevelPredictor:
    def score(self, samples: np.ndarray, sample_rate: int) -> dict[str, float]:
        if not len(samples):
            return {}
        peak = float(np.abs(samples).max())
        return {"ovrl": 1 + 4 * peak, "sig": 3.0, "bak": 3.0, "p808": 3.0}


class SpectrumJudge:
    def embed(self, samples: np.ndarray, sample_rate: int) -> np.ndarray | None:
        return np.abs(np.fft.rfft(samples, 1024)) if len(samples) else None


@dataclass
class Said:
    samples: np.ndarray
    spoken_text: str
    status: str = "ok"
    sample_rate: int = RATE
    wall_sec: float = 0.25
    first_audio_sec: float = 0.1
    sentences: tuple[SpokenSentence, ...] = ()


@dataclass
class ToneSpeaker:
    voices: list[str] = field(default_factory=lambda: list(PITCH))
    sample_rate: int = RATE
    fingerprint: str = "0123456789abcdef"
    said: list[tuple[str, str]] = field(default_factory=list)

    def say(self, text: str, voice: str | None = None, seed: int = 0) -> Said:
        self.said.append((text, voice))
        spoken = text.replace("2", "word")
        if "mute" in text:
            raise VoicegraftError("nothing to say")
        if "forever" in text:
            return Said(tone(PITCH[voice], 100), spoken)
        return Said(tone(PITCH[voice], len(spoken.split())), spoken, "budget" if "stuck" in text else "ok")

    def resynthesize_semantic(self, samples: np.ndarray, voice: str) -> np.ndarray:
        return tone(PITCH[voice], round(5 * len(samples) / RATE))

    def resynthesize_codec(self, samples: np.ndarray) -> np.ndarray:
        return samples * 0.5


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have no figures: they take a second to draw."""
    monkeypatch.setattr(speech_page, "speech_figures", lambda rows, summary: {})


@pytest.fixture
def judges() -> Judges:
    return Judges(CountingRecognizer(), LevelPredictor(), SpectrumJudge())


@pytest.fixture
def speaker() -> ToneSpeaker:
    return ToneSpeaker()
