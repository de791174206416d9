"""The training benchmark on a tiny model: that it compares one and the same training, and what it reports; never how long."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import training as bench
from benchmarks import training_sequences as recorded
from benchmarks.harness import table
from benchmarks.training_engines import JointSoftmax, grown_batch, grown_row, our_training, peft_training
from benchmarks.training_sequences import FRAME_RATE, Recording
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.batches import collate
from voicegraft.fusion.experts import LoraSettings
from voicegraft.fusion.lora_training import SpeechExpertTraining

pytestmark = pytest.mark.benchmarks

TINY = ["size=tiny", "num_codes=64", "rank=4", "batch=2", "turns=1", "steps=1", "device=cpu"]
LORA = LoraSettings(4, 8)
NUM_TEXT = bench.SHAPES["tiny"].vocab_size


def results(folder: Path, *arguments: str) -> dict[str, Any]:
    out = folder / "training.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "_POOL", 32)
        bench.main([*TINY, *arguments, f"out={out}"])
    return json.loads(out.read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def ours() -> SpeechExpertTraining:
    """Plain, with a LoRA that does something."""
    config = bench.BenchTrainingConfig(size="tiny", device="cpu")
    backbone = bench._random_backbone(bench.SHAPES["tiny"], config, torch.device("cpu"))
    training = our_training(backbone, recorded.speech_vocabulary("plain", 64), LORA, "plain")
    with torch.no_grad():
        for name, parameter in training.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.3)
    return training.eval()


@torch.no_grad()
def test_all_engines_train_the_same(ours: SpeechExpertTraining) -> None:
    vocabulary = ours.vocabulary
    sequences = [
        recorded.made_up(r, vocabulary, NUM_TEXT, "plain", i) for i, r in enumerate(recorded.fitted_recordings(3))
    ]
    batch, rows = collate(sequences, torch.device("cpu")), grown_batch([grown_row(s, NUM_TEXT) for s in sequences])
    wanted = rows["labels"] >= 0
    for whole in (False, True):
        peer = peft_training(_bare(ours), ours, LORA, whole).eval()
        out = peer(**rows, use_cache=False)
        for at_targets in (False, True):
            torch.testing.assert_close(JointSoftmax(ours, at_targets)(batch), out.loss, atol=1e-4, rtol=0)
        # What the peer says about speech is what ours says; its softmax has the text beside it.
        speech = torch.nn.functional.cross_entropy(out.logits[wanted][:, NUM_TEXT:], rows["labels"][wanted] - NUM_TEXT)
        torch.testing.assert_close(ours(batch)[0], speech, atol=1e-4, rtol=0)
        assert out.loss > speech + 0.1


def _bare(ours: SpeechExpertTraining) -> Any:
    """The backbone that ``ours`` sits on, without its LoRA."""
    config = bench.BenchTrainingConfig(size="tiny", device="cpu")
    return bench._random_backbone(bench.SHAPES["tiny"], config, torch.device("cpu"))


def test_the_peer_trains_the_new_rows_and_the_lora(ours: SpeechExpertTraining) -> None:
    count = lambda model: sum(p.numel() for p in model.parameters() if p.requires_grad)  # noqa: E731
    assert count(peft_training(_bare(ours), ours, LORA, whole=False)) == count(ours)
    whole = peft_training(_bare(ours), ours, LORA, whole=True)
    assert count(whole) == count(ours) + 2 * NUM_TEXT * ours.speech_embedding.config.width


def test_every_step_between_the_peer_and_ours_is_reported(tmp_path: Path) -> None:
    found = results(tmp_path)
    rows = {row["engine"]: row for row in found["engines"]}
    assert list(rows)[:3] == [bench.WHOLE, bench.GROUPED, bench.PEER] and list(rows)[-1] == bench.OURS
    assert len(rows) == 8
    for row in rows.values():
        assert row["positions_per_sec"] > 0 and row["to_peer"] > 0 and 0 <= row["padding"] < 1
        assert row["sequences_per_step"] > 0
    assert math.prod(row["to_previous"] for row in found["engines"] if "to_previous" in row) == pytest.approx(
        rows[bench.OURS]["to_peer"], rel=0.05
    )
    assert found["ours_to"][bench.PEER] == rows[bench.OURS]["to_peer"] and len(found["ours_to"]) == 3
    assert found["bar"]["holds"] == all(ratio >= 1 for ratio in found["ours_to"].values())
    losses = found["losses"]
    alike = [name for name in rows if name not in (bench.OURS, "softmax over speech alone")]
    assert max(losses[n] for n in alike) - min(losses[n] for n in alike) < 1e-4
    assert losses[bench.OURS] == losses["softmax over speech alone"] < losses[bench.PEER]
    assert len(table(found["engines"]).splitlines()) == 9


def test_what_runs_on_a_gpu_runs_here(tmp_path: Path) -> None:
    settings = ("dtype=bfloat16", "gradient_checkpointing=true", "sequence=48", "breakdown=false", "turns=2")
    found = results(tmp_path, *settings)
    assert len(found["engines"]) == 4 and all(row["positions_per_sec"] > 0 for row in found["engines"])
    assert {row["padding"] for row in found["engines"]} == {0}
    assert found["mean_positions"] == 48 and {row["sequences_per_step"] for row in found["engines"]} == {2}


def test_the_guided_layout_and_real_lengths(tmp_path: Path) -> None:
    lines = [{"audio": f"{i}.wav", "text": "An owl can see.", "speaker": "a", "duration": 1 + i / 2} for i in range(4)]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = results(tmp_path, "layout=guided", f"data={tmp_path}", "breakdown=false", "precision=bf16")
    assert found["losses"][bench.PEER] > 0 and found["mean_positions"] > FRAME_RATE * 1.75


def test_useful_operations_are_counted(ours: SpeechExpertTraining) -> None:
    shape = bench.SHAPES["tiny"]
    width, mlp, half = shape.width, shape.mlp_width, shape.width // 2
    frozen = 2 * (2 * width**2 + 2 * width * half + 3 * width * mlp)
    lora = 2 * 4 * (2 * 2 * width + 2 * (width + half) + 3 * (width + mlp))
    learned = lora + ours.vocabulary.size * width
    assert bench.useful_flops(ours, 100.0) == 4 * frozen + 6 * learned + 6 * 2 * width * 100


def test_made_up_sequences_are_as_long_as_recordings() -> None:
    sec = [r.num_frames / FRAME_RATE for r in recorded.fitted_recordings(2000)]
    assert 6 < sum(sec) / len(sec) < 7 and max(sec) <= 10.1  # LJSpeech
    plain, guided = recorded.speech_vocabulary("plain", 64), recorded.speech_vocabulary("guided", 64)
    one = Recording(("Yesterday", "I", "ran"), 40)
    # Four tokens of text, the voice, SPEECH_BOS and each frame; the end is a target alone.
    assert len(recorded.made_up(one, plain, NUM_TEXT, "plain", 0)) == 4 + 1 + 1 + 40
    sequence = recorded.made_up(one, guided, NUM_TEXT, "guided", 0)
    assert (sequence.token >= guided.first_code).sum() == 40
    assert (
        len(recorded.cut(recorded.made_up(recorded.long_recordings(1, 300)[0], plain, NUM_TEXT, "plain", 0), 300))
        == 300
    )


def test_batches_hold_as_many_sequences_as_the_peers() -> None:
    material = bench._material(bench.BenchTrainingConfig(batch=8), NUM_TEXT, torch.device("cpu"))
    draw = material.drawn("buckets")
    assert sum(len(draw(step, 0)) for step in range(400)) / 400 == pytest.approx(8, abs=0.4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["size=giant"], "expected a size among tiny, cpu"),
        (["size=tiny", "data=/nowhere"], "found none in /nowhere"),
        (["size=tiny", "steps=0"], "at least 1"),
        (["size=tiny", "device=cuda:99"], "not on this machine"),
    ],
)
def test_mistakes_are_told(arguments: list[str], message: str) -> None:
    with pytest.raises(VoicegraftError, match=message):
        bench.main(["device=cpu", *arguments])


def test_too_few_recordings_are_told(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text('{"audio": "a.wav", "text": "An owl.", "duration": 2.0}')
    with pytest.raises(VoicegraftError, match="lower batch"):
        results(tmp_path, f"data={tmp_path}")
    assert len(recorded.real_recordings(tmp_path)) == 1
