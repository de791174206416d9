"""Two real processes on the CPU (gloo) end with what one ends with, however they share the work and whenever they die."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file
from torch import Tensor

from tests import tiny
from tests.train.launched import train

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[2]
LAUNCHED = Path(__file__).with_name("launched.py")
CONFIGS = ROOT / "voicegraft/recipes/configs/full/accelerate"
SAME = {"atol": 1e-4, "rtol": 0.0}  # four steps at a learning rate of 0.01 move every weight a hundred times further


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def together(folder: Path, *jobs: str, **variables: str) -> list[int]:
    """Runs the jobs in two processes, with environment variables of their own; how each ended."""
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(LAUNCHED), str(folder), *jobs],
                    env={**environment(), **place, **variables, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stderr=stack.enter_context((folder / f"stderr{rank}").open("w")),
                )
            )
            for rank in range(2)
        ]
        for process in started:
            stack.callback(process.kill)
        return [process.wait(timeout=600) for process in started]


def launched(folder: Path, config: str, *jobs: str) -> None:
    """Runs the jobs in two processes of Accelerate's own launcher, with one of the shipped configs."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / config)]
    command += ["--num_processes", "2", "--main_process_port", free_port(), str(LAUNCHED), str(folder), *jobs]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr


def weights(folder: Path, name: str) -> dict[str, Tensor]:
    return load_file(folder / f"{name}.safetensors")


def assert_close(folder: Path, name: str, expected: dict[str, Tensor]) -> None:
    torch.testing.assert_close(weights(folder, name), expected, **SAME)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """What one process ends with."""
    folder = tmp_path_factory.mktemp("alone")
    for job in ("adversaries:adversaries", "speech:speech", "backbone:backbone", "backbone:muon:muon=1"):
        train(folder, job)
    return {name: weights(folder, name) for name in ("adversaries", "speech", "backbone", "muon")}


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes did all that they can do with the whole model each."""
    folder = tmp_path_factory.mktemp("replicated")
    train(folder, "adversaries:grown:stop=1")  # one process begins
    ends = together(
        folder,
        "adversaries:adversaries",
        "adversaries:grown",
        "adversaries:shrunk:stop=1:rank=1",
        "adversaries:bad:bad=2:rank=1",
        "adversaries:odd:batches_per_step=3",
        "speech:speech",
        "backbone:moved:stop=0:rank=1",
        "codec:codec",
        "adversaries:killed:kill=2:rank=1",
    )
    assert ends[1] == -9 and ends[0] != 0, (folder / "stderr0").read_text()
    return folder


@pytest.fixture(scope="module")
def sharded(replicated: Path) -> Path:
    """The same folder, after two processes that share the weights of the large models."""
    launched(
        replicated,
        "fsdp2.yaml",
        "backbone:sharded",
        "backbone:muon:muon=1",
        "speech:sharded-speech",
        "backbone:moved:stop=1:rank=0",
        "adversaries:killed",
    )
    return replicated


def test_two_processes_end_with_the_weights_of_one(replicated: Path, alone: dict[str, dict[str, Tensor]]) -> None:
    assert_close(replicated, "adversaries", alone["adversaries"])
    assert_close(replicated, "speech", alone["speech"])
    for moved in alone.values():
        assert max(float(w.abs().max()) for w in moved.values()) > 0.01


def test_shared_weights_end_as_whole_ones_do(sharded: Path, alone: dict[str, dict[str, Tensor]]) -> None:
    for name in ("sharded", "sharded-speech", "muon"):
        for rank in range(2):
            assert int((sharded / f"{name}.{rank}.parts").read_text()) > 15  # were truly shared
    assert_close(sharded, "sharded", alone["backbone"])
    assert_close(sharded, "sharded-speech", alone["speech"])
    for name, begun in tiny.llama().named_parameters():  # Muon computes in bfloat16: percents of the way may differ
        own, other = weights(sharded, "muon")[f"lm.{name}"], alone["muon"][f"lm.{name}"]
        assert float((own - other).norm()) < 0.2 * float((other - begun.detach()).norm())


def test_a_run_goes_on_with_more_processes_and_with_fewer(
    replicated: Path, alone: dict[str, dict[str, Tensor]]
) -> None:
    assert_close(replicated, "grown", alone["adversaries"])
    assert not (replicated / "shrunk.safetensors").exists()  # one process had the signal, both stopped
    train(replicated, "adversaries:shrunk")
    assert_close(replicated, "shrunk", alone["adversaries"])


def test_a_run_goes_from_whole_weights_to_shared_ones_and_back(
    sharded: Path, alone: dict[str, dict[str, Tensor]]
) -> None:
    assert not (sharded / "moved.safetensors").exists()
    train(sharded, "backbone:moved")
    assert_close(sharded, "moved", alone["backbone"])


def test_a_run_of_which_one_process_was_killed_ends_like_one_never_stopped(
    sharded: Path, alone: dict[str, dict[str, Tensor]]
) -> None:
    assert_close(sharded, "killed", alone["adversaries"])


def test_a_loss_that_is_no_number_in_one_process_stops_all_with_one_message(replicated: Path) -> None:
    errors = {(replicated / f"bad.{rank}.error").read_text() for rank in range(2)}
    assert len(errors) == 1 and "loss is nan at step 2; lower the learning rate" in errors.pop()


def test_batches_that_cannot_be_shared_are_a_clear_error(replicated: Path) -> None:
    assert "set batches_per_step to a multiple of 2" in (replicated / "odd.0.error").read_text()


def test_codebooks_follow_the_frames_of_all_processes(replicated: Path, tmp_path: Path) -> None:
    made = weights(replicated, "codec")
    train(tmp_path, "codec:codec:batches_per_step=2")  # the main process's batches, had it trained alone
    assert not torch.allclose(made["codec.rvq.counts"], weights(tmp_path, "codec")["codec.rvq.counts"])
    # All frames are counted: 6 per batch, in both codebooks, whatever was revived.
    assert bool(made["codec.rvq.started"]) and (made["codec.rvq.counts"].sum(1) > 3).all()


def test_the_log_holds_means_over_all_processes(replicated: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from tests.train.launched import noise

    events = EventAccumulator(str(replicated / "adversaries" / "log"))
    events.Reload()
    firsts = [float(noise(number)[0, 0]) for number in range(16)]
    logged = [event.value for event in events.Scalars("first")]
    assert logged == pytest.approx([sum(firsts[:8]) / 8, sum(firsts[8:]) / 8], abs=1e-5)
    assert len(events.Scalars("rows_per_sec")) == 2 and len(events.Scalars("validation/loss")) == 2


def test_the_configs_are_accelerates() -> None:
    from accelerate.commands.launch import launch_command_parser

    known = {action.dest for action in launch_command_parser()._actions}
    for name in ("ddp.yaml", "fsdp2.yaml", "deepspeed.yaml"):
        config = load_config_from_file(str(CONFIGS / name))  # refuses keys that it does not know
        assert config.num_processes == 8
        raw = yaml.safe_load((CONFIGS / name).read_text())
        assert {*raw.get("fsdp_config", {}), *raw.get("deepspeed_config", {})} <= known
