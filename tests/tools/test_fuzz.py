"""A short run of the fuzzers, and that they find what they look for."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import fuzz
from voicegraft.core.errors import VoicegraftError

COUNTS = {"texts": 100, "recordings": 40, "tables": 100, "adapters": 8, "packs": 8}


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_what_is_damaged_is_read_or_refused_in_one_line(kind: str) -> None:
    outcome = fuzz.fuzz(kind, COUNTS[kind], seed=1)
    assert not outcome.failures and outcome.refused
    assert outcome.read + outcome.refused == COUNTS[kind]


def test_tracebacks_long_messages_and_hangs_are_failures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def faulty(folder: Path) -> Callable[[random.Random], object]:
        faults = iter([ValueError("odd"), VoicegraftError("one\ntwo"), VoicegraftError("one line"), None])

        def case(draw: random.Random) -> object:
            if (fault := next(faults)) is not None:
                raise fault
            while True:
                pass

        return case

    monkeypatch.setitem(fuzz.KINDS, "texts", faulty)
    monkeypatch.setattr(fuzz, "LIMIT_SEC", 1)
    assert fuzz.main(["--count", "4", "--seed", "7", "--kinds", "texts"]) == 1
    out = capsys.readouterr().out
    assert "4 cases, 0 read, 1 refused, 3 failures" in out
    assert "texts 7 0: ValueError" in out and "texts 7 1: several lines" in out and "texts 7 3: TimeoutError" in out
