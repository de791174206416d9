import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from tests import tiny
from tests.guarding import SENTENCE as SHORT
from tests.guarding import Scripted, oracle, said
from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.speech.fault_injection import FaultyMachine
from voicegraft.guard.guarded import HOLD_AFTER, GuardedTokens, GuardPolicy
from voicegraft.guard.monitor import NOISE, REPEAT, RUNAWAY, SKIP, Monitor
from voicegraft.inference.engine import sentence_tokens
from voicegraft.inference.pack import Pack
from voicegraft.inference.sampling import Sampling

# Long enough for the look-ahead to have grown.
PHONES_BEFORE = "dh ax | k w ih k | b r aw n | d ao g | jh ah m p t | ow v er | hh er | f eh n s"
BEFORE = ("^", *PHONES_BEFORE.split())
SENTENCE = (*BEFORE, "|", *SHORT[1:])
N, M = len(SENTENCE), len(BEFORE)
ALL = range(N)
LOOP = [*range(M + 10), *range(M + 4, M + 10), *range(M + 4, M + 10), *range(M + 4, N)]
SKIPPED = [*range(M + 4), *range(M + 14, N)]
NOISY = [*range(M + 7), *[None] * 8, *range(M + 7, N)]
POLICY = GuardPolicy(hold_frames=20)


def guarded(*tries: list[int | None] | range, policy: GuardPolicy = POLICY) -> GuardedTokens:
    return GuardedTokens(Scripted(SENTENCE, tries), oracle(pace=True), "ann", policy)


def sounds_right(tokens: list[int]) -> bool:
    return Monitor(oracle(pace=True), SENTENCE, "ann").push(tokens, ended=True) is None


@pytest.mark.parametrize("mode", ["on", "watch"])
def test_what_is_right_passes_as_it_is(mode: str) -> None:
    guard = guarded(ALL, policy=replace(POLICY, mode=mode))
    assert list(guard) == said(SENTENCE)
    assert guard.faults == [] and guard.failed is None and guard.num_retries == 0


def test_nothing_is_handed_on_before_its_look_ahead_is_there_but_the_first() -> None:
    guard = guarded(ALL)
    made: list[int] = []
    guard.tokens.on_token = made.append  # type: ignore[attr-defined]
    ahead = [made[-1] - number for number, _ in enumerate(guard, start=1)]
    assert ahead[0] == 0 and max(ahead) <= POLICY.hold_frames
    total = len(said(SENTENCE))
    for number, frames in enumerate(ahead):
        assert frames >= min(POLICY.hold_frames, number // HOLD_AFTER, total - number - 1)


@pytest.mark.parametrize(("plan", "kind"), [(LOOP, REPEAT), (SKIPPED, SKIP), (NOISY, NOISE)])
def test_a_fault_is_said_again_and_what_was_heard_stays(plan: list[int | None], kind: str) -> None:
    guard = guarded(plan)
    handed_at_rewind: list[int] = []
    rewind = guard.tokens.rewind

    def spy(num_frames: int, unit: int, temperature: float) -> None:
        handed_at_rewind.append(guard.num_frames)
        rewind(num_frames, unit, temperature)

    guard.tokens.rewind = spy  # type: ignore[method-assign]
    tokens = list(guard)
    assert [fault.kind for fault in guard.faults] == [kind] and guard.failed is None and guard.num_retries == 1
    (frame, unit, temperature), (handed,) = guard.tokens.rewound[0], handed_at_rewind  # type: ignore[attr-defined]
    assert frame >= handed and temperature == POLICY.retries[0]
    assert len(said(SENTENCE[:unit])) == frame
    assert tokens == said(SENTENCE) and sounds_right(tokens)


def test_watching_tells_and_changes_nothing() -> None:
    guard = guarded(LOOP, policy=replace(POLICY, mode="watch"))
    assert list(guard) == said([SENTENCE[n] for n in LOOP])
    assert [fault.kind for fault in guard.faults] == [REPEAT] and guard.num_retries == 0


def test_tries_are_bounded_and_what_was_right_is_kept() -> None:
    guard = guarded(LOOP)
    guard.tokens.then = lambda unit: [*range(unit, M + 10), *[*range(M + 4, M + 10)] * 3]  # type: ignore[attr-defined]
    tokens = list(guard)
    assert guard.num_retries == len(POLICY.retries) == len(guard.faults) - 1
    assert guard.failed is guard.faults[-1] and guard.failed.kind == REPEAT
    right = len(tokens) - 4  # a phone may be taken for the end of the one before it
    assert tokens[:right] == said(SENTENCE)[:right] and len(tokens) >= len(said(SENTENCE[: M + 9]))
    assert sum(unit.num_frames for unit in guard.spoken) <= len(tokens)


def test_what_comes_after_the_text_is_left_out() -> None:
    for extra, kind, most in ([None] * 20, NOISE, 1), ([N - 1] * 200, RUNAWAY, 31):
        guard = guarded([*ALL, *extra])
        tokens = list(guard)
        assert [fault.kind for fault in guard.faults] == [kind] and guard.failed is None and guard.num_retries == 0
        assert len(said(SENTENCE[:-1])) <= len(tokens) <= len(said(SENTENCE)) + most


def test_a_fault_that_was_heard_in_part_is_gone_on_from() -> None:
    """Without any look-ahead a repeat has sounded when it shows; then speech goes on where it left the text."""
    guard = guarded(LOOP, policy=replace(POLICY, hold_frames=0))
    tokens = list(guard)
    assert guard.failed is None and guard.num_retries == 1
    frame, unit, _ = guard.tokens.rewound[0]  # type: ignore[attr-defined]
    assert tokens[:frame] == said([SENTENCE[n] for n in LOOP])[:frame] and unit in (M + 9, M + 10)
    assert tokens[frame:] == said(SENTENCE[unit:])


@pytest.mark.parametrize(
    "wrong", [{"mode": "loud"}, {"hold_frames": -1}, {"retries": (0.3, -0.1)}], ids=lambda wrong: next(iter(wrong))
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(VoicegraftError, match="the guard's"):
        GuardPolicy(**wrong)  # type: ignore[arg-type]


# The decoder that is rewound

TEXT = "The owl sees my house."
GREEDY = replace(tiny.OPTIONS, semantic=Sampling(0.0, 1.0), length_spread=0.0)


@pytest.mark.parametrize("merged", [False, True])
def test_going_back_to_a_unit_says_the_same_again(pack: Pack, merged: bool) -> None:
    lm = tiny.decode_through(pack.lm, merged)
    whole = sentence_tokens(lm, TEXT, "ann", GREEDY)
    tokens = list(whole)
    spoken = list(whole.spoken)
    for unit in (len(whole.units) - 3, 3, 0):
        frame = spoken[unit].start_frame
        again = sentence_tokens(lm, TEXT, "ann", GREEDY)
        source = iter(again)
        for _ in range(min(frame + 2, len(tokens))):
            next(source)
        next(source, None)
        again.rewind(frame, unit)
        assert tokens[:frame] + list(again) == tokens
        assert again.spoken == spoken


def test_going_back_may_change_the_temperature_and_the_unit(pack: Pack) -> None:
    tokens = sentence_tokens(pack.lm, TEXT, "ann", tiny.OPTIONS, np.random.default_rng(0))
    first = list(tokens)
    tokens.rewind(5, 7, temperature=0.0)
    later = list(tokens)
    assert tokens.machine.options.semantic.temperature == 0.0 and later
    assert [s.unit for s in tokens.spoken][-len(tokens.units[7:]) :] == tokens.units[7:]
    assert sum(s.num_frames for s in tokens.spoken) == 5 + len(later) and len(first) > 5


@pytest.mark.parametrize(("frame", "unit"), [(6, 3), (6, 9), (0, 0), (4, 1)])
def test_after_going_back_every_unit_was_said_once_and_in_order(pack: Pack, frame: int, unit: int) -> None:
    """Also where the guard and the model disagree about how far speech had come."""

    class Lost(FaultyMachine):
        def unit_after(self, number: int) -> int:
            return 2 if number == 6 and not self.cured else number + 1

    lost = partial(Lost, draw=random.Random(0))
    tokens = sentence_tokens(pack.lm, TEXT, "ann", tiny.OPTIONS, np.random.default_rng(0), machine=lost)
    source = iter(tokens)
    for _ in range(20):
        next(source)
    tokens.rewind(frame, unit)
    num_tokens = frame + len(list(tokens))
    assert [s.unit for s in tokens.spoken] == tokens.units
    starts = [s.start_frame for s in tokens.spoken]
    assert starts == sorted(starts) and tokens.spoken[-1].start_frame + tokens.spoken[-1].num_frames == num_tokens
