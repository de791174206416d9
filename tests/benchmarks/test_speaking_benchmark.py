"""The benchmarks on tiny models: what they report and that what they compare says the same; never how long it takes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import fusion as bench_fusion
from benchmarks import speaking as bench
from benchmarks import spoken_answers as spoken
from benchmarks.fusion_engines import DecodeEngines, Proportions, TwoPasses, cached, random_case, xlora
from benchmarks.harness import ratio, table, take_turns
from voicegraft.evaluation.listening.items import Item
from voicegraft.inference.speaker import Speaker
from voicegraft.inference.writer import Writing

pytestmark = pytest.mark.benchmarks

SIZES = Proportions(width=32, mlp_width=48, num_layers=2, num_heads=4, num_kv_heads=2, vocab_size=64, rank=4)
TINY = [
    *(f"proportions.{name}={value}" for name, value in vars(SIZES).items()),
    "prompt=6",
    "steps=4",
    "turn=2",
    "repetitions=2",
    "batches=[1,2]",
    "xlora_steps=2",
    "xlora_wide_steps=2",
    "num_folds=2",
]


@pytest.fixture(scope="module")
def results(pack_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("bench") / "fusion.json"
    bench_fusion.main([*TINY, f"pack={pack_folder}", f"out={out}"])
    return json.loads(out.read_text())  # type: ignore[no-any-return]


def test_speaking_is_measured(speaker: Speaker) -> None:
    found = bench.bench(speaker, rounds=1)
    assert found["rtf"] > 0 and found["step_ratio_to_stock_generate"] > 0
    assert sum(found["share_of_time"].values()) == pytest.approx(1, abs=0.01)


def test_what_is_compared_says_the_same(results: dict[str, Any]) -> None:
    assert len(results["decoding"]) == 2
    for found in results["decoding"].values():
        differences = found["largest_difference"]
        assert differences.pop("text, identity") == 0.0
        assert set(differences) == {"both, folded in", "X-LoRA", "X-LoRA, with two caches added"}
        assert all(value < 1e-4 for value in differences.values()), differences


def test_every_ratio_with_a_bar_is_reported(results: dict[str, Any]) -> None:
    rows = results["bars"]
    for found in results["decoding"].values():
        for size in (1, 2):
            assert found[f"transformers, batch {size}"]["backbone"]["ratio"] == 1.0
    # In each of two places: two mixtures and two texts at two batch sizes, the folded one, and two X-LoRAs.
    assert len(rows) == 2 * (4 * 2 + 1 + 2)
    assert all(row["ratio"] > 0 and isinstance(row["holds"], bool) for row in rows)
    assert len(table(rows).splitlines()) == len(rows) + 1


def test_engines_take_turns_and_the_median_ratio_counts() -> None:
    order: list[str] = []
    turns = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, warmup=1)
    assert "".join(order) == "ba" + "ab" + "ba" + "ab" and [len(took) for took in turns.values()] == [3, 3]
    assert ratio({"a": [2.0, 9.0, 4.0], "b": [1.0, 1.0, 2.0]}, "a", "b") == 2.0


def test_a_bar_is_kept_or_missed() -> None:
    def numbers(ratio: float) -> dict[str, float]:
        return {"ms": 1.0, "ratio": ratio}

    found = {
        "transformers, batch 1": {"backbone": numbers(1), "text, identity": numbers(1.03), "both, x": numbers(1.1)},
        "step decoder": {"both, folded in": numbers(1.0)},
        "X-LoRA": {"X-LoRA": numbers(1.9), "both, x": numbers(1)},
    }
    rows = bench_fusion.bars({"decoding": {"here": found}})
    assert [row["holds"] for row in rows] == [False, True, True, False]


@torch.inference_mode()
def test_the_mixtures_do_something_and_gates_of_a_router_change_with_the_token(tmp_path: Path) -> None:
    engines = DecodeEngines(random_case(SIZES, tmp_path))
    ids = torch.arange(12)[None]
    through = engines.through_transformers()
    for name, engine in through.items():
        alike = bench_fusion.difference(through["backbone"], engine, ids) == 0.0
        assert alike == (name == "backbone" or name.startswith("text")), name
    state = engines.mixing.start()
    with engines.both.gated(state):
        engines.both.backbone(input_ids=ids)
    assert state.logits[0].shape == (1, 12, 2) and state.logits[0].std(1).min() > 0


@torch.inference_mode()
def test_xlora_with_an_ordinary_cache_is_wrong_and_with_two_right(tmp_path: Path) -> None:
    """Why X-LoRA is measured without: if PEFT learns to cache, this fails and the benchmark is to follow."""
    case = random_case(SIZES, tmp_path)
    model = xlora(case)
    ids = torch.arange(12)[None]
    whole = model(input_ids=ids, use_cache=False).logits

    def in_steps(step: Any) -> torch.Tensor:
        return torch.cat([step(part) for part in (ids[:, :6], *ids[:, 6:].split(1, 1))], 1)

    assert not torch.allclose(in_steps(cached(model)), whole, atol=1e-2)
    assert torch.allclose(in_steps(cached(model, TwoPasses(case.bare.config))), whole, atol=1e-4)


def test_spoken_answers_count_what_was_right_in_writing(
    pack_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ears:
        def transcribe(self, samples: Any, sample_rate: int) -> str:
            assert len(samples) and sample_rate == 24_000
            return "It is Berlin, I think."

    monkeypatch.setattr(spoken, "load_recognizer", lambda name: (Ears(), None))
    monkeypatch.setattr(spoken, "questions", lambda: {n: Item(f"q{n}", ("berlin",)) for n in range(3)})
    monkeypatch.setattr(Writing, "text", property(lambda self: "Berlin or Bonn"))
    spoken.main([f"pack={pack_folder}", "limit=2", "max_tokens=4", "threads=1", f"out={tmp_path / 'found.json'}"])
    found = json.loads((tmp_path / "found.json").read_text())
    said = [row for row in found["answers"] if row["status"] == "ok"]
    assert found["asked"] == 2 == found["written right"] and found["heard right, of these"] == len(said)
    assert all(row["first_text_sec"] <= row["first_audio_sec"] <= row["wall_sec"] for row in said)
