import numpy as np
import pytest

from voicegraft.audio.level import normalise_level, trim_silence

RATE = 24_000


def tone(seconds: float, level: float) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 220 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


@pytest.mark.parametrize("level", [0.002, 0.05, 0.9])
@pytest.mark.parametrize("pause_sec", [0.0, 2.0])
def test_any_level_becomes_the_same_and_pauses_do_not_count(level: float, pause_sec: float) -> None:
    samples = np.concatenate([tone(1.0, level), np.zeros(round(pause_sec * RATE), np.float32)])
    levelled = normalise_level(samples, RATE, rms=0.08)
    assert levelled.dtype == np.float32
    assert rms(levelled[:RATE]) == pytest.approx(0.08, rel=0.01)
    np.testing.assert_allclose(levelled * (level / 0.08 / np.sqrt(2)), samples, atol=1e-3 * level)


def test_peaks_are_not_clipped() -> None:
    samples = tone(1.0, 0.01)
    samples[1234] = 1.0
    assert np.abs(normalise_level(samples, RATE, peak=0.95)).max() == pytest.approx(0.95)


@pytest.mark.parametrize("num_samples", [0, 100, 4800])
def test_silence_stays_silence(num_samples: int) -> None:
    silence = np.zeros(num_samples, np.float32)
    assert np.array_equal(normalise_level(silence, RATE), silence)
    assert len(trim_silence(silence[:100], RATE)) == min(100, num_samples)


def test_silence_is_cut_down_to_what_is_kept_and_speech_is_not() -> None:
    noise = 1e-4 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    speech = tone(0.5, 0.3)
    trimmed = trim_silence(np.concatenate([noise, speech, noise]), RATE, keep_sec=0.1)
    assert np.array_equal(trimmed, np.concatenate([noise[-2400:], speech, noise[:2400]]))


def test_what_has_little_silence_keeps_it() -> None:
    speech = np.concatenate([np.zeros(480, np.float32), tone(0.5, 0.3), np.zeros(960, np.float32)])
    assert np.array_equal(trim_silence(speech, RATE), speech)


def test_trimming_does_not_depend_on_the_level() -> None:
    random = np.random.default_rng(1)
    samples = np.concatenate([1e-4 * random.standard_normal(RATE), tone(1, 0.2), np.zeros(RATE)]).astype(np.float32)
    assert len(trim_silence(samples, RATE)) == len(trim_silence(samples * np.float32(0.25), RATE))
