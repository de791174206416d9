import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny
from voicegraft.acoustic.acoustic_lm import AcousticLM, FrameRateRatio
from voicegraft.inference.sentence import SpeakOptions
from voicegraft.inference.stream import acoustic_frames
from voicegraft.tokenizers.base import TokenizerSpec

SHAPES = {"usual": {}, "no context": {"past": 0, "ahead": 0}, "wide": {"past": 4, "ahead": 1, "window": 3}}


@pytest.fixture(scope="module", params=SHAPES)
def model(request: pytest.FixtureRequest) -> AcousticLM:
    torch.manual_seed(0)
    model = AcousticLM(replace(tiny.ACOUSTIC, **SHAPES[request.param]))
    model.codebooks.normal_()
    return model.eval()


def tokens(num_frames: int, batch: int = 1, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random semantic ids ``[B, T]``, codes ``[B, K, T]`` and voices ``[B, W]``."""
    generator = torch.Generator().manual_seed(seed)
    semantic = torch.randint(27, (batch, num_frames), generator=generator)
    codes = torch.randint(16, (batch, 3, num_frames), generator=generator)
    return semantic, codes, torch.randn(batch, tiny.ACOUSTIC.voice_width, generator=generator)


def around(model: AcousticLM, semantic: Tensor, frame: int) -> Tensor:
    c = model.config
    padded = torch.nn.functional.pad(semantic, (c.past, c.ahead), value=model.beyond)
    return padded[:, frame : frame + c.past + 1 + c.ahead]


@torch.inference_mode()
def test_steps_are_the_full_forward(model: AcousticLM) -> None:
    """Longer than the window; a greedy step picks the top of what forward gives for the same past."""
    semantic, _, voice = tokens(20, batch=3)
    state, made = model.start(3), []
    for frame in range(20):
        codes, state = model.step(around(model, semantic, frame), voice, state, temperature=0.0)
        made.append(codes)
    codes = torch.stack(made, -1)
    assert codes.unique().numel() > 5
    assert torch.equal(model(semantic, codes, voice).argmax(-1), codes)
    assert all(k.shape[2] == min(20, model.config.window) for k in state.keys)


@torch.inference_mode()
def test_steps_that_forget_the_frame_before_are_the_forward_without_history(model: AcousticLM) -> None:
    semantic, _, voice = tokens(12, batch=2)
    state, made = model.start(2), []
    for frame in range(12):
        codes, state = model.step(around(model, semantic, frame), voice, state, temperature=0.0, forget=True)
        made.append(codes)
    codes = torch.stack(made, -1)
    nothing = torch.zeros_like(model.shifted_sums(codes))
    assert torch.equal(model(semantic, codes, voice, nothing).argmax(-1), codes)
    assert torch.equal(state.previous, model.entries(codes)[..., -1, :].sum(0))  # remembered for a later step


@torch.inference_mode()
def test_the_look_ahead_is_exactly_what_it_says(model: AcousticLM) -> None:
    semantic, codes, voice = tokens(16)
    before = model(semantic, codes, voice)
    for frame in (3, 9):
        last_seen = frame + model.config.ahead
        for position, seen in ((last_seen, True), (last_seen + 1, False)):
            other = semantic.clone()
            other[:, position] = (other[:, position] + 1) % 27
            after = model(other, codes, voice)
            assert torch.allclose(after[:, :, : frame + 1], before[:, :, : frame + 1], atol=1e-5) is not seen
            assert torch.allclose(after[:, :, :frame], before[:, :, :frame], atol=1e-5)


@torch.inference_mode()
def test_a_code_depends_on_the_codes_before_it_only(model: AcousticLM) -> None:
    semantic, codes, voice = tokens(12)
    before = model(semantic, codes, voice)
    for book in range(3):
        other = codes.clone()
        other[:, book, 5] = (other[:, book, 5] + 1) % 16
        changed = (model(semantic, other, voice) - before).abs().amax((0, 3)) > 1e-5  # [K, T]
        assert not changed[:, :5].any()
        assert changed[:, 5].tolist() == [k > book for k in range(3)]
        assert changed[:, 6].all()


@torch.inference_mode()
def test_a_batch_with_padding_is_its_single_sequences(model: AcousticLM) -> None:
    semantic, codes, voice = tokens(14, batch=3)
    lengths = [14, 9, 5]
    padded = semantic.clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = model.beyond
    together = model(padded, codes, voice)
    for row, length in enumerate(lengths):
        alone = model(semantic[row : row + 1, :length], codes[row : row + 1, :, :length], voice[row : row + 1])
        torch.testing.assert_close(together[row : row + 1, :, :length], alone, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_the_voice_and_the_history_matter(model: AcousticLM) -> None:
    semantic, codes, voice = tokens(8)
    before = model(semantic, codes, voice)
    assert not torch.allclose(model(semantic, codes, -voice), before, atol=1e-3)
    history = model.shifted_sums(codes)
    assert torch.equal(model(semantic, codes, voice, history), before)
    assert not history[:, 0].any()
    assert not torch.allclose(model(semantic, codes, voice, torch.zeros_like(history)), before, atol=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_codes_are_drawn_from_the_softmax(temperature: float) -> None:
    model = tiny.acoustic_lm()
    num = 4000
    semantic, _, voice = tokens(4)
    span = around(model, semantic, 0).expand(num, -1)
    codes, _ = model.step(
        span,
        voice.expand(num, -1),
        model.start(num),
        temperature,
        torch.rand(num, 3, 16, generator=torch.Generator().manual_seed(0)),
    )
    logits = model(semantic, codes[:1, :, None].expand(1, 3, 4), voice)[0, 0, 0]
    wanted = torch.softmax(logits / temperature, -1)
    found = torch.bincount(codes[:, 0], minlength=16) / num
    assert (found - wanted).abs().max() < 4 * (0.25 / num) ** 0.5


@torch.inference_mode()
def test_a_blended_frame_is_the_mean_over_the_codes(model: AcousticLM) -> None:
    semantic, _, voice = tokens(4)
    span = around(model, semantic, 1)
    hard, after = model.step(span, voice, model.start(), 0.0)
    torch.testing.assert_close(after.previous, model.entries(hard[..., None]).sum(0)[:, 0])
    same, state = model.step(span, voice, model.start(), 0.0, blend=True)
    assert torch.equal(same, hard) and torch.equal(
        state.previous, after.previous
    )  # at 0 the mean is the likeliest entry
    _, sharp = model.step(span, voice, model.start(), 1e-3, blend=True)
    torch.testing.assert_close(sharp.previous, after.previous, atol=1e-3, rtol=1e-3)
    _, even = model.step(span, voice, model.start(), 1e6, blend=True)
    torch.testing.assert_close(even.previous, model.codebooks.mean(1).sum(0)[None], atol=1e-3, rtol=1e-3)
    _, between = model.step(span, voice, model.start(), 1.0, blend=True)
    assert between.previous.norm() < after.previous.norm()


@torch.inference_mode()
def test_the_same_seed_draws_the_same_codes() -> None:
    model = tiny.acoustic_lm()
    semantic, _, voice = tokens(4)

    def drawn(seed: int) -> Tensor:
        generator, state, made = torch.Generator().manual_seed(seed), model.start(), []
        for frame in range(4):
            codes, state = model.step(
                around(model, semantic, frame), voice, state, 1.0, torch.rand(1, 3, 16, generator=generator)
            )
            made.append(codes)
        return torch.stack(made)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    model = tiny.acoustic_lm("semantic-id", "codec-id")
    model.save(tmp_path / "acoustic", {})
    loaded = AcousticLM.load(tmp_path / "acoustic")
    assert loaded.config == model.config
    for name, tensor in model.state_dict().items():
        assert (loaded.state_dict()[name] - tensor).abs().max() <= tensor.abs().max() / 250, name  # int8 on disk


# Streams of unlike rates

RATES = [(1, 1), (4, 1), (2, 3), (1, 2), (256, 441)]  # semantic tokens that last as long as acoustic frames


@pytest.mark.parametrize("rates", RATES)
def test_a_frame_belongs_to_the_token_in_its_middle(rates: tuple[int, int]) -> None:
    ratio = FrameRateRatio(*rates)
    for frame in range(300):
        middle = Fraction(2 * frame + 1, 2) * Fraction(*rates)  # in tokens
        assert ratio.token_of(frame) == math.floor(middle)
    assert ratio.token_of(torch.arange(300)).tolist() == [ratio.token_of(frame) for frame in range(300)]
    for num_tokens in range(60):
        assert ratio.num_frames(num_tokens) == sum(ratio.token_of(frame) < num_tokens for frame in range(300))


def test_the_clock_of_two_tokenizers() -> None:
    semantic = TokenizerSpec(16_000, 320, 500, 1, "s")
    assert FrameRateRatio.of(semantic, TokenizerSpec(24_000, 1920, 2048, 8, "c")) == FrameRateRatio(4, 1)
    assert FrameRateRatio.of(semantic, TokenizerSpec(24_000, 320, 1024, 8, "c")) == FrameRateRatio(2, 3)
    assert FrameRateRatio.of(semantic, TokenizerSpec(44_100, 512, 1024, 9, "c")) == FrameRateRatio(256, 441)


@torch.inference_mode()
@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("rates", RATES)
def test_steps_are_the_full_forward_at_any_rates(rates: tuple[int, int], history: bool) -> None:
    torch.manual_seed(0)
    config = replace(tiny.ACOUSTIC, semantic_tokens=rates[0], acoustic_frames=rates[1], past=3, ahead=2)
    model = AcousticLM(config).eval()
    model.codebooks.normal_()
    semantic, _, voice = tokens(21)
    num_frames = config.ratio.num_frames(21)
    state, made = model.start(), []
    for frame in range(num_frames):
        near = around(model, semantic, config.ratio.token_of(frame))
        codes, state = model.step(near, voice, state, temperature=0.0, forget=not history)
        made.append(codes)
    codes = torch.stack(made, -1)
    believed = None if history else torch.zeros_like(model.shifted_sums(codes))
    assert torch.equal(model(semantic, codes, voice, believed).argmax(-1), codes)
    # A crop that is told which tokens its frames belong to.
    start = num_frames // 3
    first = config.ratio.token_of(start)
    own = config.ratio.token_of(torch.arange(start, num_frames))[None] - first
    crop = model(
        semantic[:, first:], codes[..., start:], voice, tokens=own, history=torch.zeros(1, num_frames - start, 6)
    )
    assert crop.shape == (1, 3, num_frames - start, 16)
    if not history:  # beyond the edge's context and window, the crop is the whole
        whole = model(semantic, codes, voice, believed)
        if num_frames - start > config.window * config.num_layers + 3 * rates[1]:
            assert torch.allclose(crop[..., -1, :], whole[..., -1, :], atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("rates", RATES)
def test_a_stream_makes_each_frame_as_soon_as_its_look_ahead_is_there(rates: tuple[int, int]) -> None:
    torch.manual_seed(0)
    config = replace(tiny.ACOUSTIC, semantic_tokens=rates[0], acoustic_frames=rates[1], past=2, ahead=3)
    model = AcousticLM(config).eval()
    model.codebooks.normal_()
    semantic, _, voice = tokens(21)
    options = SpeakOptions(acoustic_blend=False, acoustic_temperature=0.0, acoustic_history=True)
    given: list[int] = []

    def source() -> Iterator[int]:
        for token in semantic[0].tolist():
            given.append(token)
            yield token

    made, seen = [], []
    for frame in acoustic_frames(model, source(), voice[0].numpy(), options):
        made.append(frame)
        seen.append(len(given))
    assert len(made) == config.ratio.num_frames(21)
    for frame, count in enumerate(seen):
        assert count == min(21, config.ratio.token_of(frame) + config.ahead + 1)
    state = model.start()
    for frame, given_frame in enumerate(made):
        near = around(model, semantic, config.ratio.token_of(frame))
        _, state = model.step(near, voice, state, temperature=0.0)
        assert np.array_equal(state.previous[0], given_frame)
