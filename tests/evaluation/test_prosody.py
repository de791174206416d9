import numpy as np
import pytest

from voicegraft.evaluation.metrics.prosody import Pitch, measure_pauses, measure_pitch

RATE = 24_000


def voice(low_hz, high_hz, seconds):
    """Harmonics of a pitch that glides evenly on the scale of semitones."""
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(low_hz * (high_hz / low_hz) ** (time / seconds)) / RATE
    return (0.2 * sum(np.cos(k * phase + k) / k for k in range(1, 10))).astype(np.float32)


def quiet(seconds):
    return np.random.default_rng(0).normal(0, 2e-4, round(seconds * RATE)).astype(np.float32)


def test_pitch_of_a_glide():
    pitch = measure_pitch(voice(100, 200, 2.0), RATE)
    assert pitch.median_hz == pytest.approx(100 * 2**0.5, rel=0.03)
    assert pitch.iqr_semitones == pytest.approx(6, abs=0.3)
    assert pitch.voiced_share > 0.95


def test_voiced_share_leaves_out_the_silence_at_the_ends_but_not_inside():
    sound = voice(120, 130, 1.0)
    assert measure_pitch(np.concatenate([quiet(2), sound, quiet(2)]), RATE).voiced_share > 0.9
    inside = measure_pitch(np.concatenate([sound, quiet(1), sound]), RATE)
    assert inside.voiced_share == pytest.approx(2 / 3, abs=0.06)
    assert inside.median_hz == pytest.approx(125, rel=0.03)


@pytest.mark.parametrize("gain", [1.0, 0.02])
def test_pauses_are_the_silences_inside_that_last(gain):
    sound = voice(120, 140, 0.5)
    samples = np.concatenate([quiet(1), sound, quiet(0.3), sound, quiet(0.08), sound, quiet(0.6), sound, quiet(1)])
    assert measure_pauses(gain * samples, RATE) == pytest.approx([0.3, 0.6], abs=0.03)


def test_a_deep_voice_has_no_pauses_between_its_pulses():
    pulses = np.zeros(2 * RATE, np.float32)
    pulses[:: RATE // 60] = 0.8
    assert measure_pauses(pulses, RATE) == []


@pytest.mark.parametrize("num_samples", [0, 100, 500, RATE])
def test_silence_has_neither_pitch_nor_pauses(num_samples):
    silence = np.zeros(num_samples, np.float32)
    assert measure_pitch(silence, RATE) == Pitch(None, None, 0.0)
    assert measure_pauses(silence, RATE) == []


def test_noise_has_sound_but_no_pitch():
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    assert measure_pitch(noise, RATE).voiced_share < 0.1
