import numpy as np
import pytest
import torch

from tools.tokenizer_study import probes
from voicegraft.core.errors import VoicegraftError

QUICK = probes.ProbeConfig(context=1, steps=150, batch_size=256)
VOCAB = 12


def clips(num_clips: int, seed: int, length: int = 60) -> list[np.ndarray]:
    """Random classes ``[T]`` out of 6."""
    draw = np.random.default_rng(seed)
    return [draw.integers(6, size=length) for _ in range(num_clips)]


def classify(train, test, num_classes=6, config=QUICK) -> tuple[torch.Tensor, torch.Tensor]:
    known = probes.join_frames(train, config.context)
    joined = probes.join_frames(test, config.context)
    probe = probes.train_probe(known, VOCAB, num_classes, config)
    return probes.predict(probe, joined, config.context), joined.targets


def test_codes_that_are_the_classes_tell_them_and_unrelated_codes_do_not() -> None:
    def pairs(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return [((2 * c + c % 2)[:, None] % VOCAB, c) for c in clips(20, seed)]

    assert probes.accuracy(*classify(pairs(0), pairs(1))) > 0.99
    noise = [(np.random.default_rng(9).permutation(c)[:, None], c) for c in clips(20, 0)]
    others = [(np.random.default_rng(8).permutation(c)[:, None], c) for c in clips(20, 1)]
    assert abs(probes.accuracy(*classify(noise, others)) - 1 / 6) < 0.06


def test_the_context_reaches_a_neighbouring_frame_and_a_second_codebook_counts() -> None:
    def pairs(seed: int, shift: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(np.stack([np.zeros_like(c), np.roll(c, shift)], 1), c) for c in clips(20, seed)]

    assert probes.accuracy(*classify(pairs(0, 1), pairs(1, 1))) > 0.95
    assert probes.accuracy(*classify(pairs(0, 3), pairs(1, 3))) < 0.3  # three frames away: out of reach


def test_features_are_read_like_codes_whatever_their_scale() -> None:
    def pairs(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        directions = np.random.default_rng(7).normal(size=(6, 8)) * 50 + 300
        return [(directions[c].astype(np.float32), c) for c in clips(20, seed)]

    config = probes.ProbeConfig(context=1, steps=300, batch_size=256)
    assert probes.accuracy(*classify(pairs(0), pairs(1), config=config)) > 0.95


def test_numbers_are_told_where_they_are_known() -> None:
    def pairs(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        made = []
        for c in clips(20, seed):
            height = np.sin(c).astype(np.float32)
            height[::5] = np.nan
            made.append((c[:, None], height))
        return made

    told, truth = classify(pairs(0), pairs(1), num_classes=None)
    assert not truth.isnan().any() and len(truth) == 20 * 48
    assert probes.correlation(told, truth) > 0.99
    assert abs(probes.correlation(told[torch.randperm(len(told))], truth)) < 0.1
    assert probes.correlation(torch.ones(4), torch.arange(4.0)) == 0.0


def test_a_probe_without_targets_or_with_too_few_says_so() -> None:
    with pytest.raises(VoicegraftError, match="aligned"):
        probes.join_frames([(np.zeros((4, 1), np.int64), np.full(4, -100))], 1)
    with pytest.raises(VoicegraftError, match="3 for 4 frames"):
        probes.join_frames([(np.zeros((4, 1), np.int64), np.zeros(3, np.int64))], 1)


def test_clips_tell_their_speaker_only_if_speakers_differ_in_codes() -> None:
    draw = np.random.default_rng(0)
    speakers = np.arange(90) % 3

    def vectors(share: float) -> np.ndarray:
        """``share`` of the frames come from a third of the codes that belongs to the speaker."""
        rows = []
        for s in speakers:
            own = draw.random(80) < share
            codes = np.where(own, 4 * s + draw.integers(4, size=80), draw.integers(VOCAB, size=80))
            rows.append(probes.clip_vector(codes[:, None], VOCAB))
        return np.stack(rows)

    truth = torch.from_numpy(speakers)

    def recall(share: float) -> float:
        guessed = probes.clip_classes(vectors(share), list(speakers), vectors(share))
        return probes.mean_recall(torch.from_numpy(guessed), truth)

    assert recall(0.5) > 0.9
    assert abs(recall(0.0) - 1 / 3) < 0.17


def test_mean_recall_weighs_classes_not_frames() -> None:
    assert probes.mean_recall(torch.zeros(100), torch.tensor([0] * 90 + [1] * 10)) == pytest.approx(0.5)


def test_code_use_of_even_and_of_single_codes() -> None:
    even = probes.code_use([np.stack([np.arange(8), np.arange(8)], 1)], VOCAB)
    assert (even.used, even.bits_per_frame) == (16, pytest.approx(6.0))
    assert even.perplexity == pytest.approx(8.0)
    single = probes.code_use([np.zeros((5, 1), np.int64)], VOCAB)
    assert single.used == 1
    assert (single.perplexity, single.bits_per_frame) == (pytest.approx(1.0), pytest.approx(0.0))
