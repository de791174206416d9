import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from voicegraft.core.errors import VoicegraftError
from voicegraft.inference.pack import DEFAULT_PACK
from voicegraft.inference.speaker import Speaker
from voicegraft.recipes import evaluate_robustness, robustness_stages
from voicegraft.recipes.robustness_stages import STAGES, RobustnessConfig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pocket() -> Speaker:
    return Speaker.load(DEFAULT_PACK)


@pytest.fixture(scope="module")
def report(pocket: Speaker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All stages, as short as they can be, in two shards, the second of which was interrupted once."""
    out = tmp_path_factory.mktemp("robustness")
    clip = {
        "audio": "a.wav",
        "text": "We see two owls in the house.",
        "speaker": "heart",
        "duration": 1.0,
        "split": "val",
    }
    (out / "manifest.jsonl").write_text(json.dumps(clip) + "\n")
    config = RobustnessConfig(out / "report", limit=2, recordings=out, minutes=0.08)
    first = replace(config, shard="0/2", stages=("suite", "fault-injection"))
    second = replace(config, shard="1/2", stages=STAGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robustness_stages, "NUM_INJECTED", 1)
        evaluate_robustness.evaluate_robustness(first, pocket)
        evaluate_robustness.evaluate_robustness(replace(second, stages=("suite",)), pocket)
        rows = (config.out / "rows-1-of-2.jsonl").read_bytes()
        (config.out / "rows-1-of-2.jsonl").write_bytes(rows[:-20])
        found = evaluate_robustness.evaluate_robustness(second, pocket)
    assert (config.out / "rows-1-of-2.jsonl").read_bytes().startswith(rows)
    assert json.loads((config.out / "report.json").read_text()) == json.loads(json.dumps(found))
    return {**found, "markdown": (config.out / "report.md").read_text()}


def test_every_utterance_is_judged_with_and_without_the_guard(report: dict[str, Any]) -> None:
    suite = report["suite"]
    assert suite["num_utterances"] == 2 and suite["num_words"] >= 2
    assert set(suite["with"]) == set(suite["without"]) >= {"runaway", "repeat, skip or truncation"}
    assert suite["with"]["runaway"]["value"] == 0.0 and "| runaway | 0.00 % [0.00, 65.76]" in report["markdown"]


def test_each_injected_fault_is_caught_and_mended(report: dict[str, Any]) -> None:
    assert [row["num"] for row in report["fault injection"]] == [1, 1, 1, 1]
    for row in report["fault injection"]:
        assert row["caught"]["value"] == row["mended"]["value"] == 1.0 and row["alarms before"]["value"] == 0.0, row
        assert row["late_frames"][2] < 60


def test_cost_times_and_the_long_text_are_told(report: dict[str, Any]) -> None:
    assert report["cost"]["sentences"] == 2 and report["cost"]["RTF, median of the ratios"] > 0
    assert report["timestamps"]["words"] == 7 and report["timestamps"]["median error, ms"] < 150
    long = report["long"]
    assert long["sentences with other words"] == [] and long["seams that jump more than the sound around them"] == 0
    assert long["words expected and said"][0] == long["words expected and said"][1] > 0


def injected(kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "caught": True, "alarm_before": False, "mended": True, "late": 8, "told_as": "skip", **fields}


def test_rates_have_wilsons_intervals() -> None:
    rows = [injected("loop") for _ in range(9)] + [
        injected("loop", caught=False, late=None, told_as=None, mended=False)
    ]
    (summary,) = evaluate_robustness.summarize_faults(rows)
    truth = stats.binomtest(9, 10).proportion_ci(method="wilson")
    assert (summary["caught"]["low"], summary["caught"]["high"]) == pytest.approx((truth.low, truth.high))
    assert summary["late_frames"] == [8.0, 8.0, 8.0] and summary["told_as"] == {"skip": 9, None: 1}
    assert evaluate_robustness.summarize_suite([]) is None


def test_what_does_not_fit_is_an_error(pocket: Speaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RobustnessConfig(tmp_path)
    for shard in ("1/1", "a/b", "3", "-1/2"):
        with pytest.raises(VoicegraftError, match="expected a shard I/N"):
            evaluate_robustness.main(["--out", str(tmp_path), f"--shard={shard}"])
    with pytest.raises(VoicegraftError, match="no stage 'song'; choose among suite, fault-injection"):
        evaluate_robustness.main(["--out", str(tmp_path), "--stages", "song"])
    with pytest.raises(VoicegraftError, match="needs --recordings"):
        robustness_stages.timestamps(config, pocket, "heart")
    (tmp_path / "manifest.jsonl").write_text('{"audio": "a.wav", "text": "Go.", "speaker": "eve", "duration": 1.0}\n')
    with pytest.raises(VoicegraftError, match="no recording of the voice 'heart'"):
        robustness_stages.timestamps(replace(config, recordings=tmp_path), pocket, "heart")
    monkeypatch.setattr(pocket, "pack", replace(pocket.pack, monitor=None))
    with pytest.raises(VoicegraftError, match="has no monitor"):
        evaluate_robustness.evaluate_robustness(config, pocket)
