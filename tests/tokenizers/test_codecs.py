"""One battery for every codec and its decoder: the contracts ``AcousticCodec`` and ``FrameDecoder``, against the originals."""

from collections.abc import Iterable
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.codecs import CODECS, NUM_CODEBOOKS, SIZE, Case, noise, write_case
from voicegraft.tokenizers.base import FrameDecoder

NUM_FRAMES = 48  # longer than any look-ahead and window here
TIGHT = {"atol": 1e-5, "rtol": 1e-4}  # sound has an amplitude of 0.05 to 1


@pytest.fixture(scope="module", params=CODECS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return write_case(request.param, tmp_path_factory.mktemp("codec"))


def codes_of(case: Case, num_frames: int = NUM_FRAMES, batch: int = 1, seed: int = 0) -> Tensor:
    """Random ones, which use every entry."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(case.codec.spec.vocab_size, (batch, NUM_CODEBOOKS, num_frames), generator=random)


def sums(case: Case, codes: Tensor) -> Tensor:
    """Codes ``[B, K, T]`` -> the sums of their entries ``[B, W, T]``."""
    books = case.codec.codebooks
    return torch.stack([books[k][codes[:, k]] for k in range(codes.shape[1])]).sum(0).mT


def pieces(decoder: FrameDecoder, latents: Tensor, sizes: Iterable[int]) -> list[Tensor]:
    """What every step hands out, and last what ``finish`` does."""
    state = decoder.start(len(latents))
    out = []
    for part in latents.split(list(sizes), -1):
        samples, state = decoder.step(part, state)
        out.append(samples)
    return [*out, decoder.finish(state)]


def decoded(case: Case, codes: Tensor) -> Tensor:
    return torch.cat(pieces(case.decoder, sums(case, codes), [codes.shape[-1]]), -1)


def tensors(value: Any) -> list[Tensor]:
    """All tensors in a state."""
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value):
        return [t for field in fields(value) for t in tensors(getattr(value, field.name))]
    return [t for item in value for t in tensors(item)] if isinstance(value, tuple) else []


@torch.inference_mode()
def test_numbers_say_what_the_codes_are_and_both_sides_agree(case: Case) -> None:
    spec, decoder = case.codec.spec, case.decoder
    assert (decoder.sample_rate, decoder.hop, decoder.codec) == (spec.sample_rate, spec.hop, spec.fingerprint)
    assert (spec.num_codebooks, spec.vocab_size) == (NUM_CODEBOOKS, SIZE) == case.codec.codebooks.shape[:2]
    codes = case.codec.encode(noise(spec.hop * 80, batch=2))
    assert not codes.is_floating_point() and codes.min() >= 0 and codes.max() < SIZE
    assert all(codes[:, k].unique().numel() >= SIZE // 2 for k in range(NUM_CODEBOOKS)), "too few codes to test with"


@torch.inference_mode()
@pytest.mark.parametrize("hops", [1, 1.5, 1.99, 2, 3.01, 20])
def test_codes_are_the_originals_and_one_per_whole_hop(case: Case, hops: float) -> None:
    samples = noise(int(hops * case.codec.spec.hop), batch=2)
    codes = case.codec.encode(samples)
    num_frames = samples.shape[-1] // case.codec.spec.hop
    assert codes.shape == (2, NUM_CODEBOOKS, num_frames)
    assert torch.equal(codes, case.encode(samples)[..., :num_frames])


@torch.inference_mode()
@pytest.mark.parametrize("num_frames", [1, 2, 3, 6, 7, 8, NUM_FRAMES])
def test_sums_of_entries_sound_as_the_original_decodes_the_codes(case: Case, num_frames: int) -> None:
    codes = codes_of(case, num_frames, batch=2)
    original, ours = case.decode(codes), decoded(case, codes)
    assert ours.shape == (2, num_frames * case.decoder.hop)
    missing = ours.shape[-1] - original.shape[-1]
    assert 0 <= missing < case.decoder.hop / 2 and not ours[:, original.shape[-1] :].any()
    torch.testing.assert_close(ours[:, : original.shape[-1]], original, **TIGHT)
    assert num_frames < 8 or original.std() > 0.01, "too quiet to test with"


@torch.inference_mode()
@pytest.mark.parametrize(
    "sizes",
    [[1] * 48, [3] * 16, [5, 1, 1, 7, 2, 11, 1, 20], [1, 47], [47, 1]],
    ids=["single frames", "threes", "uneven", "late", "early"],
)
def test_pieces_of_any_size_make_the_same_sound(case: Case, sizes: list[int]) -> None:
    codes = codes_of(case, batch=2)
    out = pieces(case.decoder, sums(case, codes), sizes)
    torch.testing.assert_close(torch.cat(out, -1), decoded(case, codes), **TIGHT)


@torch.inference_mode()
@pytest.mark.parametrize("num_frames", [1, 2, 5, 6, 7, 8])
def test_short_streams_frame_by_frame(case: Case, num_frames: int) -> None:
    codes = codes_of(case, num_frames)
    out = pieces(case.decoder, sums(case, codes), [1] * num_frames)
    torch.testing.assert_close(torch.cat(out, -1), decoded(case, codes), **TIGHT)


@torch.inference_mode()
def test_nothing_sounds_as_nothing(case: Case) -> None:
    assert case.decoder.finish(case.decoder.start(3)).shape == (3, 0)


@torch.inference_mode()
def test_the_future_never_changes_what_was_handed_out(case: Case) -> None:
    codes = codes_of(case)
    other = codes.clone()
    other[..., 30:] = (other[..., 30:] + 5) % SIZE
    handed_out = torch.cat(pieces(case.decoder, sums(case, codes[..., :30]), [1] * 30)[:-1], -1)
    for future in (codes, other):
        torch.testing.assert_close(decoded(case, future)[:, : handed_out.shape[-1]], handed_out, **TIGHT)
    assert not torch.allclose(decoded(case, codes), decoded(case, other), atol=1e-3)


@torch.inference_mode()
def test_sound_lags_by_the_frames_that_are_announced_and_no_more(case: Case) -> None:
    hop, ahead = case.decoder.hop, case.decoder.ahead  # type: ignore[attr-defined]
    out = pieces(case.decoder, sums(case, codes_of(case)), [1] * NUM_FRAMES)
    num_samples = sum(part.shape[-1] for part in out[:-1])
    assert (NUM_FRAMES - ahead) * hop <= num_samples < (NUM_FRAMES - ahead + 1) * hop
    # And it is needed: what comes last is heard in what comes out last of all.
    codes = codes_of(case)
    other = codes.clone()
    other[..., -1] = (other[..., -1] + 5) % SIZE
    first_changed = int((decoded(case, codes) - decoded(case, other)).abs()[0].gt(1e-7).nonzero()[0])
    assert num_samples - hop <= first_changed < NUM_FRAMES * hop


@torch.inference_mode()
def test_a_batch_is_its_single_streams(case: Case) -> None:
    codes = codes_of(case, batch=3)
    torch.testing.assert_close(decoded(case, codes), torch.cat([decoded(case, row[None]) for row in codes]), **TIGHT)


@torch.inference_mode()
def test_many_streams_take_turns_on_one_codec(case: Case) -> None:
    streams = [sums(case, codes_of(case, seed=seed)) for seed in range(3)]
    states = [case.decoder.start() for _ in streams]
    heard: list[list[Tensor]] = [[] for _ in streams]
    for frame in range(0, NUM_FRAMES, 2):
        for i, latents in enumerate(streams):
            samples, states[i] = case.decoder.step(latents[..., frame : frame + 2], states[i])
            heard[i].append(samples)
    for i in reversed(range(3)):
        heard[i].append(case.decoder.finish(states[i]))
        torch.testing.assert_close(torch.cat(heard[i], -1), decoded(case, codes_of(case, seed=i)), **TIGHT)


@torch.inference_mode()
def test_a_state_is_a_value(case: Case) -> None:
    latents = sums(case, codes_of(case))
    _, state = case.decoder.step(latents[..., :20], case.decoder.start())
    kept = [t.clone() for t in tensors(state)]
    first, then = case.decoder.step(latents[..., 20:], state)
    case.decoder.finish(then)
    assert all(torch.equal(a, b) for a, b in zip(tensors(state), kept, strict=True))
    assert torch.equal(case.decoder.step(latents[..., 20:], state)[0], first)
    with pytest.raises(FrozenInstanceError):
        setattr(state, fields(state)[0].name, None)


@torch.inference_mode()
def test_a_long_stream_carries_no_more_than_a_short_one(case: Case) -> None:
    latents = sums(case, codes_of(case))
    state = case.decoder.start()
    sizes = []
    for _ in range(3):
        _, state = case.decoder.step(latents, state)
        sizes.append(sum(t.numel() for t in tensors(state)))
    assert sizes[0] == sizes[1] == sizes[2] > 0
