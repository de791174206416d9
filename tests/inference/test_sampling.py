import numpy as np
import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.inference.sampling import Sampling, draw

LOGITS = np.array([1.0, 3.0, -np.inf, 2.0, 2.5], dtype=np.float32)
SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum()


def counts(sampling: Sampling, num: int = 3000) -> np.ndarray:
    random = np.random.default_rng(0)
    drawn = [draw(LOGITS, sampling, random) for _ in range(num)]
    return np.bincount(drawn, minlength=5) / num


def test_temperature_zero_takes_the_likeliest() -> None:
    assert {draw(LOGITS, Sampling(0.0, 0.5)) for _ in range(20)} == {1}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_without_a_nucleus_tokens_come_as_often_as_the_softmax_says(temperature: float) -> None:
    wanted = SOFTMAX ** (1 / temperature)
    wanted /= wanted.sum()
    assert np.abs(counts(Sampling(temperature, 1.0)) - wanted).max() < 0.035


def test_the_nucleus_is_the_smallest_set_with_the_probability() -> None:
    # Softmax: 1 -> 0.47, 4 -> 0.29, 3 -> 0.17, 0 -> 0.06.
    assert (counts(Sampling(1.0, 0.4)) > 0).tolist() == [False, True, False, False, False]
    assert (counts(Sampling(1.0, 0.7)) > 0).tolist() == [False, True, False, False, True]
    assert (counts(Sampling(1.0, 0.9)) > 0).tolist() == [False, True, False, True, True]
    two = counts(Sampling(1.0, 0.7))
    assert two[4] / two[1] == pytest.approx(np.exp(-0.5), rel=0.15)


@pytest.mark.parametrize("top_p", [0.9, 1.0])
def test_the_same_seed_draws_the_same(top_p: float) -> None:
    def drawn(seed: int) -> list[int]:
        random = np.random.default_rng(seed)
        return [draw(LOGITS, Sampling(1.0, top_p), random) for _ in range(30)]

    assert drawn(3) == drawn(3) != drawn(4)


@pytest.mark.parametrize("temperature, top_p", [(-0.1, 0.9), (1.0, 0.0), (1.0, 1.1)])
def test_wrong_settings_are_refused(temperature: float, top_p: float) -> None:
    with pytest.raises(ValueError, match="temperature must be"):
        Sampling(temperature, top_p)


@pytest.mark.parametrize("temperature", [0.0, 0.4])
def test_what_is_no_number_is_refused(temperature: float) -> None:
    """A damaged model would be drawn from for ever."""
    with pytest.raises(VoicegraftError, match="no numbers"):
        draw(np.array([0.1, np.nan, 0.3], np.float32), Sampling(temperature))
    assert draw(np.array([-np.inf, 0.3], np.float32), Sampling(temperature)) == 1
