import numpy as np
import pytest
import torch
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from voicegraft.audio.mel import LogMel, MelConfig, mel_filterbank

CONFIGS = [
    MelConfig(),
    MelConfig(num_mels=100, high_hz=12_000.0),
    MelConfig(16_000, 512, 160, 40, 50.0, 7_600.0),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_log_mels_are_those_of_transformers(config: MelConfig) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 20 * config.hop).astype(np.float32)
    side = config.num_fft - config.hop
    filters = mel_filter_bank(
        config.num_fft // 2 + 1,
        config.num_mels,
        config.low_hz,
        config.high_hz,
        config.sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    truth = spectrogram(
        np.pad(samples, (side // 2, side - side // 2)),
        window_function(config.num_fft, "hann"),
        config.num_fft,
        config.hop,
        power=1.0,
        center=False,
        mel_filters=filters,
    )
    ours = LogMel(config)(torch.from_numpy(samples)).exp().numpy()
    assert ours.shape == truth.shape
    np.testing.assert_allclose(ours, np.maximum(truth, 1e-5), rtol=2e-4, atol=1e-6)


def test_there_is_one_frame_per_hop_and_batches_are_their_rows() -> None:
    log_mel = LogMel(MelConfig())
    for num_samples in (240, 479, 480, 2399, 2400):
        assert log_mel(torch.zeros(num_samples)).shape == (80, num_samples // 240)
    batch = torch.randn(2, 3, 960, generator=torch.Generator().manual_seed(0))
    together = log_mel(batch)
    assert together.shape == (2, 3, 80, 4)
    assert torch.allclose(together[1, 2], log_mel(batch[1, 2]), atol=1e-5)


def test_a_click_is_heard_in_the_frames_around_it_only() -> None:
    config = MelConfig()
    silence = torch.zeros(20 * config.hop)
    click = silence.clone()
    click[10 * config.hop + config.hop // 2] = 1.0  # the middle of frame 10
    differs = (LogMel(config)(click) != LogMel(config)(silence)).any(0).nonzero().flatten().tolist()
    reach = (config.num_fft // 2) // config.hop
    assert differs == list(range(10 - reach, 10 + reach + 1))


def test_every_filter_hears_something_and_silence_is_finite() -> None:
    for config in CONFIGS[:2]:
        assert (mel_filterbank(config).sum(1) > 0).all()
    assert torch.isfinite(LogMel(MelConfig())(torch.zeros(960))).all()


def test_the_key_tells_configurations_apart() -> None:
    assert len({config.key for config in CONFIGS}) == len(CONFIGS)
