import random
from pathlib import Path

import pytest
import torch

from tests.guarding import SENTENCE, oracle, said
from voicegraft.guard.monitor import (
    END_FRAMES,
    NOISE,
    REPEAT,
    RUNAWAY,
    SKIP,
    SLOWEST,
    STALL,
    TRUNCATION,
    Fault,
    Monitor,
    Sensitivity,
)
from voicegraft.guard.recognizer import UnitRecognizer
from voicegraft.text.units import BOUNDARIES, PHONES, START, UNIT_CLASS

END = len(SENTENCE)


def watch(tokens: list[int], size: int = 1, after: int = 0, pace: bool = False) -> tuple[Fault | None, Monitor]:
    monitor = Monitor(oracle(after, pace), SENTENCE, "ann")
    for start in range(0, len(tokens), size):
        fault = monitor.push(tokens[start : start + size])
        if fault is not None:
            return fault, monitor
    return monitor.push([], ended=True), monitor


def drawn(draw: random.Random) -> tuple[list[int], list[int]]:
    """The sentence with lengths of units as they come, and where each unit starts."""
    tokens, starts = [], []
    for unit in SENTENCE:
        starts.append(len(tokens))
        least = 0 if unit in (START, *BOUNDARIES) else 1
        tokens += [UNIT_CLASS[unit]] * draw.randint(least, 9)
    return tokens, starts


@pytest.mark.parametrize("seed", range(20))
def test_what_is_said_in_order_is_no_fault_and_every_unit_is_placed(seed: int) -> None:
    tokens, starts = drawn(random.Random(seed))
    fault, monitor = watch(tokens, size=1 + seed % 4, after=seed % 3)
    assert fault is None and monitor.all_said and monitor.num_read == len(tokens)
    last = max(monitor._ends, key=lambda end: monitor._clean[end])
    assert monitor.starts(len(tokens) - 1, last) == starts[: last + 1]


def spoilt(first: int, last: int, where: str) -> list[int]:
    before, inside, after = said(SENTENCE[:first]), said(SENTENCE[first:last]), said(SENTENCE[last:])
    return {"repeat": before + inside + inside + after, "skip": before + after}[where]


@pytest.mark.parametrize("kind", [REPEAT, SKIP])
@pytest.mark.parametrize(("first", "last"), [(4, 13), (1, 10), (7, 14)])
def test_words_said_twice_or_not_at_all_are_found_where_it_happens(kind: str, first: int, last: int) -> None:
    at = len(said(SENTENCE[: last if kind == REPEAT else first]))
    fault, _ = watch(spoilt(first, last, kind))
    assert fault is not None and fault.kind == kind
    assert at - 4 <= fault.frame <= at + 1  # the silence before may belong to either side
    assert at < fault.seen_at <= at + 12
    assert fault.unit in range((last if kind == REPEAT else first) - 3, last)


@pytest.mark.parametrize("at", [10, 25, len(said(SENTENCE))])
def test_noise_is_found_in_the_text_and_after_it(at: int) -> None:
    draw = random.Random(at)
    noise = [draw.randrange(len(PHONES)) for _ in range(40)]
    fault, monitor = watch(said(SENTENCE)[:at] + noise)
    assert fault is not None and fault.kind == NOISE and at <= fault.seen_at <= at + 25
    assert monitor.all_said == (at == len(said(SENTENCE)))


def test_one_odd_phone_is_no_fault() -> None:
    for place in range(len(said(SENTENCE)) - 3):
        tokens = said(SENTENCE)
        tokens[place : place + 3] = [UNIT_CLASS["zh"]] * 3
        assert watch(tokens)[0] is None


def test_a_unit_that_does_not_end_is_a_stall_and_the_last_one_a_runaway() -> None:
    fault, _ = watch(said(SENTENCE[:5]) + [UNIT_CLASS["iy"]] * 200, pace=True)
    assert fault is not None and (fault.kind, fault.unit, fault.frame) == (STALL, 5, len(said(SENTENCE[:5])))
    assert fault.seen_at == fault.frame + 31
    fault, _ = watch(said(SENTENCE) + [UNIT_CLASS["!"]] * 200, pace=True)
    assert fault is not None and fault.kind == RUNAWAY and fault.seen_at <= len(said(SENTENCE)) + END_FRAMES


def test_a_sentence_has_a_budget_of_frames_by_its_voices_pace() -> None:
    assert watch(said(SENTENCE, 6), pace=True)[0] is None
    fault, monitor = watch(said(SENTENCE, 25), pace=True)
    expected = SLOWEST * 4 * END + Sensitivity().deviations * 2 * END**0.5
    assert monitor.budget == pytest.approx(expected)
    assert fault is not None and fault.kind == RUNAWAY and expected < fault.seen_at <= expected + 1
    assert Monitor(oracle(pace=True), SENTENCE, "nobody").budget == float("inf")


@pytest.mark.parametrize("last", [0, 4, 10, 14])
def test_an_end_that_comes_too_early_is_a_truncation(last: int) -> None:
    fault, _ = watch(said(SENTENCE[:last]))
    assert fault is not None and fault.kind == TRUNCATION
    assert watch(said(SENTENCE[:-1]))[0] is None  # the last boundary may be empty


@pytest.mark.parametrize("after", [0, 3])
def test_the_size_of_the_pieces_changes_no_verdict(after: int) -> None:
    tokens = spoilt(4, 10, REPEAT)
    one, _ = watch(tokens, 1, after)
    for size in (2, 5, 100):
        other, _ = watch(tokens, size, after)
        assert one is not None and other is not None
        assert (other.kind, other.frame, other.unit) == (one.kind, one.frame, one.unit)


def test_what_was_taken_as_right_is_not_complained_of_again() -> None:
    tokens = spoilt(4, 10, REPEAT)
    monitor = Monitor(oracle(), SENTENCE, "ann")
    fault = monitor.push(tokens)
    assert fault is not None
    while monitor.push([]) is not None:
        monitor.forget_jumps()
    monitor.forget_jumps()
    assert monitor.num_read == len(tokens) == monitor.num_pushed


def test_a_recogniser_is_saved_with_its_voices_and_loaded(tmp_path: Path) -> None:
    model = oracle(2, pace=True)
    model.save(tmp_path / "monitor", {"recipe": "test"})
    same = UnitRecognizer.load(tmp_path / "monitor")
    assert same.config == model.config
    windows = torch.randint(0, model.nothing + 1, (7, model.width))
    assert torch.equal(same(windows), model(windows))
