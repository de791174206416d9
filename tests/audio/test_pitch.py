import math

import numpy as np
import pytest
import torch

from voicegraft.audio.pitch import relative_pitch, track_pitch

RATE = 24_000
HOP = 480


def glide(low_hz: float, high_hz: float, seconds: float = 1.0) -> tuple[torch.Tensor, np.ndarray]:
    """A harmonic tone that glides evenly in log pitch; samples and the pitch of each frame."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = low_hz * (high_hz / low_hz) ** (time / seconds)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    samples = 0.3 * sum(np.cos(k * phase + k) / k for k in range(1, 12))
    return torch.from_numpy(samples.astype(np.float32)), pitch[::HOP]


@pytest.mark.parametrize("low, high", [(80, 120), (100, 200), (180, 250), (330, 240)])
def test_the_pitch_of_a_glide_is_followed(low: float, high: float) -> None:
    samples, truth = glide(low, high)
    tracked = track_pitch(samples, RATE, HOP)
    assert tracked.shape == (len(samples) // HOP,)
    inside = slice(2, -2)
    assert not tracked[inside].isnan().any()
    np.testing.assert_allclose(tracked[inside].numpy(), np.log(truth)[inside], atol=0.03)


def test_relative_pitch_keeps_the_melody_and_forgets_the_register() -> None:
    low, high = (relative_pitch(glide(f, 1.5 * f)[0], RATE, HOP) for f in (90, 180))
    assert low.nanmedian().abs() < 0.02
    np.testing.assert_allclose(low[2:-2].numpy(), high[2:-2].numpy(), atol=0.05)
    assert float(low[-3] - low[2]) == pytest.approx(math.log(1.5), abs=0.05)


def test_loudness_does_not_matter() -> None:
    samples, _ = glide(120, 140)
    quiet, loud = track_pitch(0.01 * samples, RATE, HOP), track_pitch(samples, RATE, HOP)
    assert torch.allclose(quiet, loud, equal_nan=True)


def test_noise_and_silence_are_unvoiced() -> None:
    noise = 0.1 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    assert relative_pitch(noise, RATE, HOP).isnan().float().mean() > 0.95
    assert relative_pitch(torch.zeros(RATE), RATE, HOP).isnan().all()


def test_a_pause_between_voiced_parts_is_unvoiced() -> None:
    samples, _ = glide(120, 130, 0.5)
    pitch = track_pitch(torch.cat([samples, torch.zeros(RATE // 2), samples]), RATE, HOP)
    assert pitch[28:47].isnan().all()
    assert not pitch[2:22].isnan().any() and not pitch[53:72].isnan().any()
