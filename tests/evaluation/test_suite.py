"""The robustness suite: as large, varied and short as it says, and exactly what its generator makes."""

from collections import Counter
from pathlib import Path

from tools.robustness_suite.build import save
from voicegraft.evaluation.speech.robustness_suite import SUITE_FILE, load_suite
from voicegraft.text.english.normalize import Normalizer


def test_the_generator_makes_the_shipped_file(tmp_path: Path) -> None:
    save(tmp_path / "suite.jsonl")
    assert (tmp_path / "suite.jsonl").read_bytes() == SUITE_FILE.read_bytes()


def test_it_is_large_and_varied_and_can_be_spoken_in_ninety_minutes() -> None:
    items = load_suite()
    kinds = Counter(item.kind for item in items)
    assert len(items) >= 1000
    assert len({item.id for item in items}) == len({item.text for item in items}) == len(items)
    assert len(kinds) >= 30
    assert min(kinds.values()) >= 3
    assert 0.03 < kinds["paragraph"] / len(items) < 0.07
    assert SUITE_FILE.stat().st_size < 200_000
    normalizer = Normalizer()
    assert sum(len(normalizer.normalize(item.text)) for item in items) < 80_000  # at 15 letters a second


def test_whatever_is_silent_has_a_reason() -> None:
    normalizer = Normalizer()
    for item in load_suite():
        result = normalizer.analyse(item.text)
        assert result.text or result.skipped or item.kind == "punctuation", item
