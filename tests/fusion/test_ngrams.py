"""N-grams sum to one, and reading with them is what trying every reading finds."""

from itertools import groupby, product

import numpy as np
import pytest

from voicegraft.fusion.connectors.ngrams import Fusion, NGrams, Reader


@pytest.mark.parametrize(("order", "least"), [(1, 2), (3, 1), (3, 2), (4, 3)])
def test_what_may_come_next_sums_to_one(order: int, least: int) -> None:
    draw = np.random.default_rng(0)
    texts = [draw.integers(1, 6, size=draw.integers(1, 8)).tolist() for _ in range(200)]
    reader = Reader(NGrams.counted(texts, 7, order, least), Fusion())  # pieces 6 and 7 were never said
    for before in ((), (1,), (1, 2), (5, 4, 3), (7, 7), (2, 7, 1)):
        assert np.exp(reader.log_probs(before, np.arange(1, 9))).sum() == pytest.approx(1, abs=1e-5)


def test_what_was_said_often_is_likelier_there_than_elsewhere() -> None:
    reader = Reader(NGrams.counted([[1, 2, 3]] * 5 + [[4, 2, 1]] * 5, 4, 3), Fusion())
    three = np.array([3])
    after_one, after_four = reader.log_probs((1, 2), three), reader.log_probs((4, 2), three)
    assert after_one > np.log(0.7) and after_four < np.log(0.2)


@pytest.mark.parametrize("seed", range(4))
def test_the_beam_finds_the_best_of_all_readings(seed: int) -> None:
    num_pieces, num_slots, fusion = 3, 4, Fusion(weight=0.7, bonus=0.3, beam=1000)
    ngrams = NGrams.counted([[1, 2], [2, 2, 3], [3, 1]], num_pieces, 3, least=1)
    reader = Reader(ngrams, fusion)
    scores = np.log(np.random.default_rng(seed).dirichlet(np.ones(num_pieces + 1), num_slots))
    sound: dict[tuple[int, ...], float] = {}
    for path in product(range(num_pieces + 1), repeat=num_slots):
        said = tuple(piece for piece, _ in groupby(path) if piece)
        sound[said] = np.logaddexp(sound.get(said, -np.inf), sum(scores[range(num_slots), path]))

    def whole(said: tuple[int, ...]) -> float:
        ended = (*said, ngrams.edge)
        language = sum(reader.log_probs(ended[:n], np.array([ended[n]]))[0] for n in range(len(ended)))
        return float(sound[said] + fusion.weight * language + fusion.bonus * len(said))

    assert tuple(reader.read(scores)) == max(sound, key=whole)
