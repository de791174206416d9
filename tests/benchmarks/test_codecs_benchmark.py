"""The benchmark of the codecs on a tiny one: what it compares sounds the same; never how long it takes."""

import json
from pathlib import Path

import pytest

from benchmarks import codecs as bench_codecs
from tests.codecs import HF_CODECS, hf_model
from voicegraft.tokenizers.hf_codec import HfCodec

pytestmark = pytest.mark.benchmarks


@pytest.mark.parametrize("name", HF_CODECS)
def test_the_ratios_are_of_equal_sounds(name: str, tmp_path: Path) -> None:
    HfCodec(hf_model(name)).save(tmp_path / "codec", {})
    out = tmp_path / "found.json"
    bench_codecs.main([f"codec={tmp_path / 'codec'}", "seconds=0.2", "chunks=[1,4]", "rounds=1", f"out={out}"])
    found = json.loads(out.read_text())["codec"]
    assert found["ratio_to_own"].keys() == {"1 per step", "4 per step", "all at once"}
    assert all(ratio > 0 for ratio in found["ratio_to_own"].values())
    assert found["largest_difference"] < 1e-4
