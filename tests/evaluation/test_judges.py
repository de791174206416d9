"""One look at each real judge, where it is installed; the clips are made up."""

import sys

import numpy as np
import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.judges import packages as judges


def vowel(pitch, formants, seconds=2.0, rate=16_000):
    """Harmonics of a pitch under resonances: enough of a voice for a voice activity detector."""
    time = np.arange(int(seconds * rate)) / rate
    samples = np.zeros_like(time)
    for n in range(1, int(4000 / pitch)):
        gain = sum(1 / (1 + ((n * pitch - formant) / 100) ** 2) for formant in formants)
        samples += gain * np.sin(2 * np.pi * n * pitch * time)
    syllables = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * time)
    return (0.3 * samples * syllables / np.abs(samples).max()).astype(np.float32)


SILENCE = np.zeros(16_000, np.float32)
NOTHING = np.zeros(0, np.float32)


def test_every_judge_hears_the_same_level_and_rate():
    loud, quiet = vowel(120, (700, 1200)), 0.05 * vowel(120, (700, 1200))
    np.testing.assert_allclose(judges.judge_samples(loud, 16_000), judges.judge_samples(quiet, 16_000), atol=1e-4)
    pytest.importorskip("soxr")
    assert len(judges.judge_samples(loud, 24_000)) == pytest.approx(len(loud) * 16 / 24, abs=1)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(VoicegraftError, match=r"pocketsphinx.*pip install voicegraft\[evaluate\]"):
        judges.PocketSphinxRecognizer()


def test_recognizer_is_independent_of_what_it_heard_before():
    pytest.importorskip("pocketsphinx")
    recognizer = judges.PocketSphinxRecognizer()
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    clip = vowel(120, (700, 1200), seconds=1.0)
    alone = recognizer.transcribe(clip, 16_000)
    recognizer.transcribe(noise, 16_000)
    assert recognizer.transcribe(clip, 16_000) == alone
    assert recognizer.transcribe(SILENCE, 16_000) == recognizer.transcribe(NOTHING, 16_000) == ""


def test_mos_is_on_its_scale_and_independent_of_level():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("speechmos")
    predictor = judges.DnsMosPredictor()
    clip = vowel(120, (700, 1200))
    scores = predictor.score(clip, 16_000)
    assert set(scores) == set(judges.MOS_KEYS)
    assert all(0.5 < score < 5 for score in scores.values())
    assert predictor.score(0.1 * clip, 16_000) == pytest.approx(scores, abs=0.01)
    assert predictor.score(SILENCE, 16_000) == predictor.score(NOTHING, 16_000) == {}


def test_speaker_judge_tells_voices_apart(capsys):
    pytest.importorskip("resemblyzer")
    judge = judges.ResemblyzerJudge()
    low, again, high = (
        judge.embed(vowel(pitch, formants, seconds), 16_000)
        for pitch, formants, seconds in [
            (110, (600, 1100), 2.0),
            (110, (600, 1100), 2.5),
            (260, (850, 2300), 2.0),
        ]
    )
    assert np.linalg.norm(low) == pytest.approx(1, abs=1e-4)
    assert low @ again > 0.9 > low @ high
    assert judge.embed(SILENCE, 16_000) is judge.embed(NOTHING, 16_000) is None
    assert capsys.readouterr().out == ""
