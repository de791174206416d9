import dataclasses

import numpy as np
import pytest
import torch

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.batches import LengthBuckets, collate
from voicegraft.data.layouts import MAX_ELAPSED, unit_window
from voicegraft.data.sequences import (
    IGNORE,
    SpeechSequence,
    WordSpelling,
    plain_sequence,
    speech_sequence,
)
from voicegraft.data.spelling import LETTER_WINDOW, letter_windows
from voicegraft.data.windows import Window
from voicegraft.text.units import BOUNDARIES, PHONES, START, UNITS
from voicegraft.tokenizers.vocabulary import END_OF_UNIT, MASK, SPEECH_BOS, SpeechVocabulary

VOCABULARY = SpeechVocabulary(("ann", "ben"), UNITS, 100)
AROUND = unit_window(VOCABULARY)


def unit_id(unit: str) -> int:
    return VOCABULARY.first_unit + VOCABULARY.unit_index[unit]


def random_sequence(
    seed: int, spoken: bool = True, frames_per_step: int = 1
) -> tuple[SpeechSequence, list[str], np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    units, words, sentence = [START], [], [1]
    for _ in range(int(random.integers(1, 5))):
        letters = "".join(random.choice(list("abcWx'"), random.integers(1, 5)))
        groups = [tuple(map(str, random.choice(PHONES, random.integers(0, 3)))) for _ in letters]
        words.append(WordSpelling(random.integers(0, 50, random.integers(1, 4)).tolist(), letters, groups))
        sentence += words[-1].ids
        units += [*(p for g in groups for p in g), str(random.choice(BOUNDARIES))]
    counts = np.asarray([random.integers(u in PHONES, 40 if u == "aa" else 4) for u in units])
    codes = random.integers(0, 100, counts.sum())
    said = (codes, counts) if spoken else (None, None)
    made = speech_sequence(VOCABULARY, sentence, words, "ben", units, *said, frames_per_step=frames_per_step)
    return made, units, counts, codes


def test_the_vocabulary_is_one_id_space_without_gaps_or_overlaps() -> None:
    ids = [SPEECH_BOS, END_OF_UNIT, MASK, *(VOCABULARY.voice_id(v) for v in ("ann", "ben")), *map(unit_id, UNITS)]
    ids += range(VOCABULARY.first_code, VOCABULARY.size)
    assert ids == list(range(VOCABULARY.size))
    with pytest.raises(VoicegraftError, match="no voice 'eve'; this model speaks as: ann, ben"):
        VOCABULARY.voice_id("eve")


def test_a_window_has_a_row_for_every_kind_at_every_place() -> None:
    window = Window(before=1, after=2, num_kinds=3)
    assert window.width == 4 and window.num_rows == 13 and window.none == (0, 0, 0, 0)
    assert window.rows([2, 0]) == [(0, 3 + 3, 6 + 1, 0), (3, 3 + 1, 0, 0)]
    shown = {row for kind in range(3) for rows in window.rows([kind] * 4) for row in rows}
    assert shown == set(range(13))


def unit_being_said(s: SpeechSequence) -> list[int]:
    """Index of the unit of each position plus one, 0 where none is said."""
    own = s.units[:, AROUND.before]
    return np.where(own > 0, own - AROUND.before * AROUND.num_kinds, 0).tolist()


def test_a_sequence_by_hand() -> None:
    units = [START, "hh", "ay", "."]
    words = [WordSpelling([9, 8], "hie", [("hh",), ("ay",), ()])]
    s = speech_sequence(VOCABULARY, [7, 8], words, "ann", units, np.array([5, 6, 7]), np.array([0, 1, 2, 0]))
    code = VOCABULARY.first_code
    hh, ay = unit_id("hh"), unit_id("ay")
    rows = [  # text, token, target, unit, elapsed, letter
        (7, -1, IGNORE, None, 0, None),
        (8, -1, IGNORE, None, 0, None),
        (-1, VOCABULARY.voice_id("ann"), IGNORE, None, 0, None),
        (9, -1, IGNORE, None, 0, None),
        (8, -1, IGNORE, None, 0, None),
        (-1, END_OF_UNIT, hh, None, 0, 0),
        (-1, hh, END_OF_UNIT, None, 1, 0),
        (-1, END_OF_UNIT, ay, None, 0, 1),
        (-1, ay, END_OF_UNIT, None, 1, 1),
        (-1, END_OF_UNIT, END_OF_UNIT, None, 0, 2),
        (-1, SPEECH_BOS, END_OF_UNIT, 0, 0, None),
        (-1, END_OF_UNIT, code + 5, 1, 0, None),
        (-1, code + 5, END_OF_UNIT, 1, 1, None),
        (-1, END_OF_UNIT, code + 6, 2, 0, None),
        (-1, code + 6, code + 7, 2, 1, None),
        (-1, code + 7, END_OF_UNIT, 2, 2, None),
        (-1, END_OF_UNIT, END_OF_UNIT, 3, 0, None),
    ]
    around = AROUND.rows([VOCABULARY.unit_index[u] for u in units])
    shown = letter_windows("hie")
    assert s.text.tolist() == [r[0] for r in rows]
    assert s.token.tolist() == [r[1] for r in rows]
    assert s.target.tolist() == [r[2] for r in rows]
    assert s.units.tolist() == [list(AROUND.none if r[3] is None else around[r[3]]) for r in rows]
    assert s.elapsed.tolist() == [r[4] for r in rows]
    assert s.letters.tolist() == [list(LETTER_WINDOW.none if r[5] is None else shown[r[5]]) for r in rows]
    assert (s.voice == VOCABULARY.voice_id("ann")).all()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("spoken", [True, False])
def test_what_is_trained_at_a_position_is_the_token_of_the_next(seed: int, spoken: bool) -> None:
    s, units, counts, codes = random_sequence(seed, spoken)
    assert ((s.text >= 0) ^ (s.token >= 0)).all()
    trained = np.flatnonzero(s.target != IGNORE)
    assert trained[-1] == len(s) - 1
    for i in trained[:-1]:
        # Between words the text goes on, after the last one SPEECH_BOS begins: both are known, not predicted.
        known = s.text[i + 1] >= 0 or s.token[i + 1] == SPEECH_BOS
        assert s.target[i] == (END_OF_UNIT if known else s.token[i + 1])
    # Every phone is spelt once, in order, and nothing else is trained before speaking but going on.
    spelling = (s.target != IGNORE) & ~s.units.any(1)
    spelt = s.target[spelling]
    assert spelt[spelt != END_OF_UNIT].tolist() == [unit_id(u) for u in units if u in PHONES]
    assert (s.letters[spelling].any(1)).all() and not s.letters[~spelling].any()
    if spoken:
        talking = s.units.any(1)
        said = s.target[talking]
        assert (said[said != END_OF_UNIT] - VOCABULARY.first_code).tolist() == codes.tolist()
        assert (said == END_OF_UNIT).sum() == len(units)
        assert talking.sum() == len(units) + counts.sum()
        assert s.elapsed.max() <= MAX_ELAPSED
        begins = talking & np.isin(s.token, (SPEECH_BOS, END_OF_UNIT))
        assert [UNITS[i - 1] for i in np.asarray(unit_being_said(s))[begins]] == units
    else:
        assert not s.units.any()


def test_collating_pads_on_the_right_and_changes_nothing() -> None:
    sequences = [random_sequence(seed)[0] for seed in range(4)]
    batch = collate(sequences, torch.device("cpu"))
    longest = max(map(len, sequences))
    for field in dataclasses.fields(SpeechSequence):
        rest = getattr(sequences[0], field.name).shape[1:]
        assert batch[field.name].shape == (4, longest, *rest) and batch[field.name].dtype == torch.int64
        for row, sequence in zip(batch[field.name], sequences, strict=True):
            assert row[: len(sequence)].tolist() == getattr(sequence, field.name).tolist()
    for row, sequence in zip(batch["target"], sequences, strict=True):
        assert (row[len(sequence) :] == IGNORE).all()


LENGTHS = np.random.default_rng(0).integers(5, 200, 300)


def test_batches_are_a_function_of_their_number() -> None:
    weights = np.random.default_rng(1).random(300)
    a, b = (LengthBuckets(LENGTHS, weights, 1000) for _ in range(2))
    for number in (5, 0, 77):
        assert a.draw(number, seed=3).tolist() == b.draw(number, seed=3).tolist()
    assert a.draw(0, 0).tolist() != a.draw(0, 1).tolist() != a.draw(1, 0).tolist()


@pytest.mark.parametrize("budget", [50, 400, 2000])
def test_a_batch_keeps_to_its_budget(budget: int) -> None:
    buckets = LengthBuckets(LENGTHS, np.ones(300), budget)
    for number in range(100):
        drawn = LENGTHS[buckets.draw(number, 0)]
        assert len(drawn) == 1 or drawn.max() * len(drawn) <= budget
        assert len(drawn) >= max(1, budget // LENGTHS.max())


def test_items_are_drawn_in_proportion_to_their_weights() -> None:
    weights = np.where(np.arange(300) % 3 == 0, 3.0, 1.0)
    weights[::7] = 0.0
    buckets = LengthBuckets(LENGTHS, weights, 2000)
    seen = np.zeros(300)
    for number in range(1500):
        np.add.at(seen, buckets.draw(number, 0), 1)
    assert (seen[::7] == 0).all()
    heavy, light = (seen[(weights == w)].mean() for w in (3.0, 1.0))
    assert heavy / light == pytest.approx(3.0, rel=0.1)
    # Short and long items of one weight are seen equally often.
    one = weights == 1.0
    short, long = seen[one & (LENGTHS < 100)].mean(), seen[one & (LENGTHS >= 100)].mean()
    assert short / long == pytest.approx(1.0, rel=0.15)


# Several frames per step


def groups(s: SpeechSequence) -> tuple[np.ndarray, np.ndarray]:
    """What stands at each position and what follows it, ``[L, G]``."""
    return np.column_stack([s.token, s.more]), np.column_stack([s.target, s.more_target])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [2, 3, 4])
def test_groups_say_what_single_frames_say(seed: int, size: int) -> None:
    single, units, counts, _ = random_sequence(seed)
    s, *_ = random_sequence(seed, frames_per_step=size)
    tokens, targets = groups(s)
    talking, alone = s.units.any(1), single.units.any(1)
    said = targets[talking]
    assert said[said != IGNORE].tolist() == single.target[alone].tolist()
    assert talking.sum() == sum(-(-(int(n) + 1) // size) for n in counts)
    # What stands at a position is what was to follow the one before.
    places = np.flatnonzero(talking)
    assert tokens[places[0]].tolist() == [SPEECH_BOS, *[-1] * (size - 1)]
    following = np.where(targets[places[:-1]] == IGNORE, -1, targets[places[:-1]])
    assert (tokens[places[1:]] == following).all()
    # The place is told as the number of frames before the group.
    begins = np.flatnonzero(np.isin(tokens, (SPEECH_BOS, END_OF_UNIT)).any(1) & talking)
    assert [UNITS[i - 1] for i in np.asarray(unit_being_said(s))[begins]] == units
    expected = [min(MAX_ELAPSED, size * step) for n in counts for step in range(-(-(int(n) + 1) // size))]
    assert s.elapsed[talking].tolist() == expected
    # Spelling goes letter by letter, as ever.
    for name in ("text", "token", "target", "letters"):
        assert (getattr(s, name)[~talking] == getattr(single, name)[~alone]).all()
    assert (s.more[~talking] == -1).all() and (s.more_target[~talking] == IGNORE).all()


def test_a_plain_sequence_by_hand() -> None:
    vocabulary = SpeechVocabulary(("ann", "ben"), (), 10)
    first, ben = vocabulary.first_code, vocabulary.voice_id("ben")
    s = plain_sequence(vocabulary, [7, 8], "ben", vocabulary.stream(np.array([3, 3, 9])), frames_per_step=2)
    tokens, targets = groups(s)
    assert s.text.tolist() == [7, 8, -1, -1, -1]
    assert tokens.tolist() == [[-1, -1], [-1, -1], [ben, -1], [SPEECH_BOS, -1], [first + 3, first + 3]]
    assert targets.tolist() == [[IGNORE] * 2] * 3 + [[first + 3, first + 3], [first + 9, END_OF_UNIT]]
    assert not s.units.any() and not s.letters.any()


def test_runs_of_equal_codes_are_said_once_with_their_length() -> None:
    vocabulary = SpeechVocabulary(("ann",), (), 10, num_runs=4)
    code, run = vocabulary.first_code, vocabulary.first_run
    assert vocabulary.size == run + 4
    said = vocabulary.stream(np.array([5, 5, 5, 2, 7, 7, 7, 7, 7, 7]))
    assert said == [code + 5, run + 2, code + 2, run, code + 7, run + 3, code + 7, run + 1]
