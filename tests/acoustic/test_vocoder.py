import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests import tiny
from voicegraft.acoustic.vocoder import Vocoder, VocoderConfig
from voicegraft.audio.pitch import track_pitch

HOP = 480
CONFIGS = {
    "default": tiny.VOCODER,
    "long windows": replace(tiny.VOCODER, num_fft=2400),  # the first frames give no final sample at all
    "short windows": replace(tiny.VOCODER, num_fft=480),
}


def random_codes(num_frames: int, batch: int = 1, seed: int = 0) -> Tensor:
    return torch.randint(16, (batch, 3, num_frames), generator=torch.Generator().manual_seed(seed))


def random_vocoder(config: VocoderConfig) -> Vocoder:
    torch.manual_seed(0)
    model = Vocoder(config)
    model.codebooks.normal_()
    return model.eval()


@pytest.fixture(scope="module", params=CONFIGS)
def vocoder(request: pytest.FixtureRequest) -> Vocoder:
    return random_vocoder(CONFIGS[request.param])


def streamed(vocoder: Vocoder, codes: Tensor, chunk: int) -> list[Tensor]:
    """The pieces of sound of each step, and of the end."""
    state, pieces = vocoder.start(len(codes)), []
    latents = vocoder.latents(codes)
    for start in range(0, codes.shape[-1], chunk):
        samples, state = vocoder.step(latents[..., start : start + chunk], state)
        pieces.append(samples)
    return [*pieces, vocoder.finish(state)]


@torch.inference_mode()
@pytest.mark.parametrize("chunk", [1, 2, 5, 13, 40])
def test_sound_in_chunks_is_the_sound_in_one_go(vocoder: Vocoder, chunk: int) -> None:
    codes = random_codes(23, batch=2)
    whole, _ = vocoder(codes)
    assert whole.shape == (2, 23 * HOP) and whole.std() > 1e-3
    torch.testing.assert_close(
        torch.cat(streamed(vocoder, codes, chunk), -1), whole, atol=1e-4 * float(whole.std()), rtol=1e-3
    )


@torch.inference_mode()
@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_short_speech_is_as_long_as_its_codes(vocoder: Vocoder, num_frames: int) -> None:
    codes = random_codes(num_frames)
    assert vocoder(codes)[0].shape == (1, num_frames * HOP)
    assert sum(p.shape[-1] for p in streamed(vocoder, codes, 1)) == num_frames * HOP


@torch.inference_mode()
def test_future_codes_never_change_sound_that_was_handed_out(vocoder: Vocoder) -> None:
    codes = random_codes(20)
    for frame in (1, 6, 19):
        other = codes.clone()
        other[..., frame:] = (other[..., frame:] + 5) % 16
        handed_out = torch.cat(streamed(vocoder, codes[..., :frame], 1)[:-1], -1)
        assert handed_out.shape[-1] == max(0, frame * HOP - vocoder.config.delay // 2)
        for continued in (codes, other):
            whole, _ = vocoder(continued)
            torch.testing.assert_close(whole[:, : handed_out.shape[-1]], handed_out, atol=1e-5, rtol=1e-3)
        assert not torch.allclose(vocoder(codes)[0], vocoder(other)[0], atol=1e-3)


@torch.inference_mode()
def test_a_batch_is_its_single_sequences(vocoder: Vocoder) -> None:
    codes = random_codes(9, batch=3)
    singles = torch.cat([vocoder(row[None])[0] for row in codes])
    torch.testing.assert_close(vocoder(codes)[0], singles, atol=1e-5, rtol=1e-3)


@torch.inference_mode()
def test_a_state_is_a_value_and_can_be_used_twice(vocoder: Vocoder) -> None:
    latents = vocoder.latents(random_codes(8))
    _, state = vocoder.step(latents[..., :4], vocoder.start())
    first, _ = vocoder.step(latents[..., 4:], state)
    second, _ = vocoder.step(latents[..., 4:], state)
    assert torch.equal(first, second)


def pulsing(pitch: float = 200.0) -> Vocoder:
    """A vocoder that only hums, at its middle pitch."""
    model = random_vocoder(replace(tiny.VOCODER, middle_pitch=pitch))
    bands = model.config.num_bands
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
        model.head.bias[:bands] = 2.0
        model.head.bias[2 * bands : 3 * bands] = -50.0  # no noise
    return model


def tracked_pitch(samples: Tensor) -> Tensor:
    """Of a hum ``[1, T]``, made duller: no lag of whole samples fits equally loud harmonics up to 11 kHz."""
    for _ in range(3):
        samples = torch.nn.functional.avg_pool1d(samples, 9, stride=1, padding=4)
    return track_pitch(samples[0], 24_000, HOP)


@torch.inference_mode()
@pytest.mark.parametrize("pitch", [90.0, 200.0, 330.0])
def test_the_pulses_have_the_predicted_pitch(pitch: float) -> None:
    samples, predicted = pulsing(pitch)(random_codes(40))
    assert torch.allclose(predicted, torch.tensor(math.log(pitch)))
    tracked = tracked_pitch(samples)[5:35]
    assert not tracked.isnan().any()
    assert (tracked - math.log(pitch)).abs().max() < 0.03


@torch.inference_mode()
def test_the_pulses_follow_a_given_pitch_where_there_is_one() -> None:
    given = torch.full((1, 80), math.log(140.0))
    given[:, 40:] = torch.nan
    samples, predicted = pulsing(220.0)(random_codes(40), given)
    tracked = tracked_pitch(samples)
    assert (tracked[4:17] - math.log(140)).abs().max() < 0.03
    assert (tracked[23:36] - math.log(220)).abs().max() < 0.03
    assert torch.allclose(predicted, torch.tensor(math.log(220.0)))


def test_every_parameter_is_trained() -> None:
    model = random_vocoder(tiny.VOCODER).train()
    samples, predicted = model(random_codes(12, batch=2), torch.full((2, 24), math.log(150.0)))
    (samples.square().mean() + predicted.square().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    model = random_vocoder(tiny.VOCODER)
    model.save(tmp_path / "vocoder", {})
    loaded = Vocoder.load(tmp_path / "vocoder")
    assert loaded.config == model.config
    for name, tensor in model.state_dict().items():
        assert (loaded.state_dict()[name] - tensor).abs().max() <= tensor.abs().max() / 250, name  # int8 on disk


@pytest.mark.parametrize("wrong", [{"hop": 481}, {"num_fft": 1000}])
def test_windows_must_fit_the_hop(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="multiple of half the hop"):
        replace(tiny.VOCODER, **wrong)
