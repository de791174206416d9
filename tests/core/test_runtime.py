import random

import numpy as np
import pytest
import torch

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Waveform
from voicegraft.core.runtime import OnThreads, pick_device, random_numbers, seed_all, single_thread


def test_auto_takes_a_device_that_computes() -> None:
    assert torch.ones(2, device=pick_device()).sum().item() == 2
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["toaster", "", "cuda:99", "cpu:3", "meta"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(VoicegraftError, match="cpu"):
        pick_device(name)


def test_single_thread_gives_the_threads_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with single_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        single_thread()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_same_seed_gives_the_same_numbers_everywhere() -> None:
    def draw(seed: int) -> tuple[float, float, float]:
        seed_all(seed)
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    assert draw(5) == draw(5)
    assert all(a != b for a, b in zip(draw(5), draw(6), strict=True))
    draw(2**40)  # larger than what NumPy takes


def test_a_waveform_knows_its_duration_and_refuses_other_arrays() -> None:
    assert Waveform(np.zeros(12_000, dtype=np.float32), 24_000).duration_sec == 0.5
    for samples, rate in [
        (np.zeros((2, 3), np.float32), 8_000),
        (np.zeros(3), 8_000),
        (np.zeros(3, np.float32), 0),
    ]:
        with pytest.raises(ValueError, match="expected"):
            Waveform(samples, rate)


def test_a_programs_own_number_of_threads_is_given_back_after_each_item() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        drawn = OnThreads(1, (torch.get_num_threads() for _ in range(2)))
        assert next(drawn) == 1 and torch.get_num_threads() == 2
        assert list(drawn) == [1] and torch.get_num_threads() == 2
        assert list(OnThreads(None, (torch.get_num_threads() for _ in range(1)))) == [2]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("seed", [-1, 2**64, 99999999999999999999999])
def test_a_seed_that_none_takes_is_refused(seed: int) -> None:
    with pytest.raises(VoicegraftError, match=f"expected a seed from 0 to {2**64 - 1}, got {seed}"):
        random_numbers(seed)
