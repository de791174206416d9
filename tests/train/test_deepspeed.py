"""Two real processes on the CPU (gloo) that DeepSpeed's ZeRO moves end with what one process ends with, without it."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.train.launched import train
from tests.train.test_distributed import assert_close, launched, together, weights
from voicegraft.core.errors import VoicegraftError
from voicegraft.train import deepspeed_engine
from voicegraft.train.config import LoopConfig
from voicegraft.train.loop import run

pytestmark = pytest.mark.processes
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="needs DeepSpeed: the extra `deepspeed`"
)
NAMES = ("speech", "speech-alone", "backbone")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """What one process ends with."""
    folder = tmp_path_factory.mktemp("alone")
    for name in NAMES:
        train(folder, f"{name}:{name}")
    train(folder, "speech-alone:rounds:again=1")
    return {name: weights(folder, name) for name in (*NAMES, "rounds")}


@pytest.fixture(scope="module")
def zero2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes did all that they can do with shared moments, as the shipped config says."""
    folder = tmp_path_factory.mktemp("zero2")
    train(folder, "speech:grown:stop=0")  # one process begins
    launched(
        folder,
        "deepspeed.yaml",
        "speech:speech",
        "speech-alone:speech-alone",
        "backbone:backbone",
        "speech-alone:rounds:again=1",
        "speech:grown:stop=1:rank=0",
        "backbone:moved:stop=0:rank=1",
        "backbone:bad:bad=2:rank=1",
        "adversaries:models",
        "backbone:muon:muon=1",
    )
    return folder


@pytest.fixture(scope="module")
def zero3(zero2: Path) -> Path:
    """The same folder, after two processes that share the weights too, down to the smallest."""
    settings = zero2 / "zero3.json"
    settings.write_text(json.dumps({"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}))
    ends = together(
        zero2,
        "speech-alone:speech-alone3",
        "backbone:backbone3",
        "speech-alone:rounds3:again=1",
        "backbone:moved:stop=1:rank=0",
        "speech:mixed3",
        ACCELERATE_USE_DEEPSPEED="true",
        ACCELERATE_DEEPSPEED_CONFIG_FILE=str(settings),
    )
    assert ends == [0, 0], (zero2 / "stderr0").read_text()
    return zero2


@needs_deepspeed
@pytest.mark.parametrize("name", ["speech", "speech-alone", "backbone"])
def test_shared_moments_end_as_whole_ones_do(name: str, zero2: Path, alone: dict[str, dict[str, Tensor]]) -> None:
    assert_close(zero2, name, alone[name])


@needs_deepspeed
@pytest.mark.parametrize("name", ["speech-alone", "backbone"])
def test_shared_weights_end_as_whole_ones_do(name: str, zero3: Path, alone: dict[str, dict[str, Tensor]]) -> None:
    for rank in range(2):
        assert int((zero3 / f"{name}3.{rank}.parts").read_text()) > 15  # were truly shared
    assert_close(zero3, f"{name}3", alone[name])


@needs_deepspeed
@pytest.mark.parametrize("name", ["rounds", "rounds3"])
def test_a_second_round_goes_on_where_the_first_ended(
    name: str, zero3: Path, alone: dict[str, dict[str, Tensor]]
) -> None:
    own, other = weights(zero3, name), alone["rounds"]
    for key in other:  # AdamW's first step is full for a gradient near zero, whose sign the order of summation decides
        way = other[key] - alone["speech-alone"][key]
        assert float((own[key] - other[key]).norm()) < 0.05 * float(way.norm()), key


@needs_deepspeed
def test_a_run_goes_from_one_process_to_shared_moments_to_replicas(
    zero2: Path, alone: dict[str, dict[str, Tensor]]
) -> None:
    assert not (zero2 / "grown.safetensors").exists()
    assert together(zero2, "speech:grown") == [0, 0], (zero2 / "stderr0").read_text()
    assert_close(zero2, "grown", alone["speech"])


@needs_deepspeed
def test_a_run_goes_from_shared_moments_to_shared_weights_to_one_process(
    zero3: Path, alone: dict[str, dict[str, Tensor]]
) -> None:
    assert not (zero3 / "moved.safetensors").exists()
    train(zero3, "backbone:moved")
    assert_close(zero3, "moved", alone["backbone"])


@needs_deepspeed
@pytest.mark.parametrize(
    "name, expected",
    [
        ("bad", "loss is nan at step 2; lower the learning rate"),
        ("models", "expected one model, .* found maker, critic: launch with a DDP config"),
        ("muon", "expected optimizer adamw, .* found muon: set it to adamw"),
        ("mixed3", "expected batches of one kind in all processes, .* set zero_stage: 2"),
    ],
)
def test_what_cannot_be_done_is_a_clear_error_in_all_processes(name: str, expected: str, zero3: Path) -> None:
    for rank in range(2):
        with pytest.raises(VoicegraftError, match=expected):
            raise VoicegraftError((zero3 / f"{name}.{rank}.error").read_text())


def test_a_missing_deepspeed_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setattr(deepspeed_engine.importlib.util, "find_spec", lambda name: None)
    module: dict[str, Any] = {"one": torch.nn.Linear(2, 2)}
    with pytest.raises(VoicegraftError, match=r"found none: pip install .*voicegraft\[deepspeed\]"):
        run(LoopConfig(steps=1), tmp_path, module, lambda number: None, lambda *_: ({}, {}))
