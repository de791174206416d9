from collections.abc import Iterator

import numpy as np
import pytest

from voicegraft.audio.chunks import Seams

RATE = 24_000  # Hz
FADE = 120  # samples: 5 ms


def cut(samples: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    """Cuts into pieces of these sizes, over and over; a size of 0 is an empty piece."""
    start = turn = 0
    while start < len(samples):
        size = sizes[turn % len(sizes)]
        yield samples[start : start + size]
        start, turn = start + size, turn + 1


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, num_samples).astype(np.float32)


SIZES = [[1], [7, 0, 3], [119], [120], [121], [480, 1], [100_000]]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("num_samples", [1, 50, 120, 121, 200, 240, 5_000])
def test_fading_in_chunks_equals_fading_the_whole(sizes: list[int], num_samples: int) -> None:
    seams, samples = Seams(RATE), noise(num_samples)
    whole = np.concatenate(list(seams.fade([samples])))
    chunks = np.concatenate(list(seams.fade(cut(samples, sizes))))
    assert whole.shape == samples.shape and np.array_equal(whole, chunks)


def test_only_the_ends_fade_and_they_fade_to_silence() -> None:
    samples = np.ones(1_000, dtype=np.float32)
    faded = np.concatenate(list(Seams(RATE).fade([samples])))
    assert np.array_equal(faded[FADE:-FADE], samples[FADE:-FADE])
    assert faded[0] < 1e-3 and faded[-1] < 1e-3
    assert (np.diff(faded[:FADE]) > 0).all() and (np.diff(faded[-FADE:]) < 0).all()
    assert np.abs(np.diff(faded)).max() < 0.02, "a click"


def test_audio_is_handed_out_as_soon_as_its_end_is_known_to_be_later() -> None:
    """Holding back more than the fade would cost latency, holding back less would make a wrong fade."""
    pushed = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal pushed
        for piece in cut(noise(2_400), [240]):
            pushed += len(piece)
            yield piece

    received = 0
    for chunk in Seams(RATE).fade(source()):
        received += len(chunk)
        assert received in (pushed - FADE, 2_400)


@pytest.mark.parametrize("sizes", SIZES)
def test_sentences_are_joined_with_their_pauses(sizes: list[int]) -> None:
    seams = Seams(RATE)
    sentences = [(noise(3_000, 1), 0.25), (noise(40, 2), 0.0), (noise(0), 0.1), (noise(2_000, 3), 0.5)]
    joined = np.concatenate(list(seams.join((cut(samples, sizes), pause) for samples, pause in sentences)))
    expected = [
        part
        for samples, pause in sentences
        for part in (*seams.fade([samples]), np.zeros(round(pause * RATE), np.float32))
    ]
    assert joined.dtype == np.float32 and np.array_equal(joined, np.concatenate(expected))


def test_a_constant_offset_makes_no_click_at_a_seam() -> None:
    joined = np.concatenate(
        list(Seams(RATE).join(([np.full(3_000, sign * 0.5, np.float32)], 0.01) for sign in (1, -1)))
    )
    assert np.abs(np.diff(joined)).max() < 0.01


def test_silence_comes_in_small_pieces_that_nobody_shares() -> None:
    pieces = list(Seams(RATE, silence_block_sec=0.1).silence(0.35))
    assert [len(piece) for piece in pieces] == [2_400, 2_400, 2_400, 1_200]
    pieces[0][:] = 1.0
    assert not pieces[1].any()
    assert list(Seams(RATE).silence(0.0)) == []
