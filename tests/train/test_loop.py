import json
import math
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from voicegraft.core.artifacts import WEIGHTS_NAME
from voicegraft.core.errors import VoicegraftError
from voicegraft.train.config import LoopConfig
from voicegraft.train.loop import run
from voicegraft.train.optimizers import hidden_matrices

CONFIG = LoopConfig(steps=7, lr=1e-2, warmup_steps=2, log_every=2, save_every=3, validate_every=4)


class Maker(nn.Module):
    """Has all that a checkpoint must hold: matrices, vectors, changing buffers, dropout, a frozen part."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.2)
        self.leave = nn.Linear(8, 4)
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.drop(torch.relu(self.norm(self.enter(x))))) * self.frozen


def models() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"maker": Maker(), "critic": nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))}


def batch_at(number: int) -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(number))


def losses_of(
    modules: Mapping[str, nn.Module], batch: Tensor, step: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """As adversaries do: the critic begins alone, then both move on losses that reach through both."""
    made = modules["maker"](batch + 0.1 * torch.randn_like(batch))
    losses = {"critic": (modules["critic"](made.detach()) - modules["critic"](batch)).mean()}
    if step >= 2:
        losses["maker"] = (made - batch).square().mean() - modules["critic"](made).mean()
    return losses, {"size": made.abs().mean()}


def weights(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {f"{name}.{key}": t.clone() for name, m in modules.items() for key, t in m.state_dict().items()}


def assert_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The weights of a run that never stopped."""
    modules = models()
    assert run(CONFIG, tmp_path_factory.mktemp("run"), modules, batch_at, losses_of)
    return weights(modules)


class Killed(BaseException):
    pass


def killed_at(fatal: int) -> Callable[..., Any]:
    def losses(modules: Mapping[str, nn.Module], batch: Tensor, step: int) -> Any:
        if step == fatal:
            raise Killed
        return losses_of(modules, batch, step)

    return losses


@pytest.mark.parametrize("fatal", [0, 2, 4, 6])
def test_a_killed_run_ends_with_the_weights_of_one_that_never_stopped(
    fatal: int, tmp_path: Path, unbroken: dict[str, Tensor]
) -> None:
    with pytest.raises(Killed):
        run(CONFIG, tmp_path, models(), batch_at, killed_at(fatal))
    again = models()
    assert run(CONFIG, tmp_path, again, batch_at, losses_of)
    assert_same(weights(again), unbroken)


def test_muon_moves_hidden_matrices_and_resumes_exactly(tmp_path: Path, unbroken: dict[str, Tensor]) -> None:
    config = replace(CONFIG, optimizer="muon")
    whole = models()
    assert run(config, tmp_path / "whole", whole, batch_at, losses_of)
    with pytest.raises(Killed):
        run(config, tmp_path / "killed", models(), batch_at, killed_at(5))
    again = models()
    assert run(config, tmp_path / "killed", again, batch_at, losses_of)
    assert_same(weights(again), weights(whole))
    assert not torch.equal(weights(whole)["maker.enter.weight"], unbroken["maker.enter.weight"])
    with pytest.raises(VoicegraftError, match="another model"):  # AdamW's moments are no use to Muon
        run(CONFIG, tmp_path / "killed", models(), batch_at, losses_of)


def test_muon_leaves_rows_and_output_layers_to_adamw() -> None:
    module = nn.ModuleDict(
        {
            "embed": nn.Embedding(5, 4),
            "hidden": nn.Linear(4, 4),
            "conv": nn.Conv1d(4, 4, 1),
            "lm_head": nn.Linear(4, 5, bias=False),
            "tied": nn.Linear(4, 5, bias=False),
            "still": nn.Linear(4, 4).requires_grad_(False),
        }
    )
    module["tied"].weight = module["embed"].weight
    assert hidden_matrices(module) == {module["hidden"].weight}


def test_a_run_killed_while_it_replaced_its_checkpoint_goes_on(tmp_path: Path, unbroken: dict[str, Tensor]) -> None:
    with pytest.raises(Killed):
        run(CONFIG, tmp_path, models(), batch_at, killed_at(4))
    (tmp_path / "resume").rename(tmp_path / ".resume.old")  # what a kill between two renames leaves
    again, steps = models(), []

    def noting(modules: Mapping[str, nn.Module], batch: Tensor, step: int) -> Any:
        steps.append(step)
        return losses_of(modules, batch, step)

    assert run(CONFIG, tmp_path, again, batch_at, noting)
    assert steps == [3, 4, 5, 6]
    assert_same(weights(again), unbroken)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(number: int, tmp_path: Path, unbroken: dict[str, Tensor]) -> None:
    def losses(modules: Mapping[str, nn.Module], batch: Tensor, step: int) -> Any:
        if step == 4:
            os.kill(os.getpid(), number)
        return losses_of(modules, batch, step)

    before = signal.getsignal(number)
    if number == signal.SIGINT:
        with pytest.raises(KeyboardInterrupt):
            run(CONFIG, tmp_path, models(), batch_at, losses)
    else:
        assert run(CONFIG, tmp_path, models(), batch_at, losses) is False
    assert signal.getsignal(number) is before
    assert json.loads((tmp_path / "resume" / "config.json").read_text())["config"]["step"] == 5
    again = models()
    assert run(CONFIG, tmp_path, again, batch_at, losses_of)
    assert_same(weights(again), unbroken)


def test_a_finished_run_trains_no_further(tmp_path: Path, unbroken: dict[str, Tensor]) -> None:
    assert run(CONFIG, tmp_path, models(), batch_at, losses_of)
    again = models()
    assert run(CONFIG, tmp_path, again, batch_at, killed_at(0))
    assert_same(weights(again), unbroken)


def test_validation_changes_nothing_and_a_resumed_run_trains_in_training_mode(
    tmp_path: Path, unbroken: dict[str, Tensor]
) -> None:
    seen = []

    def validate(modules: Mapping[str, nn.Module]) -> Callable[[int], dict[str, float]]:
        def score(step: int) -> dict[str, float]:
            seen.append(step)
            torch.rand(3)
            for module in modules.values():
                module.train()
            return {"score": 1.0}

        return score

    first = models()
    with pytest.raises(Killed):
        run(CONFIG, tmp_path, first, batch_at, killed_at(5), validate(first))
    again = models()
    for module in again.values():
        module.eval()  # as models are after loading
    assert run(CONFIG, tmp_path, again, batch_at, losses_of, validate(again))
    assert seen == [4, 4, 7]
    assert_same(weights(again), unbroken)


@pytest.mark.parametrize("trained_model", ["maker", "critic"])
def test_a_loss_moves_its_own_model_only(trained_model: str, tmp_path: Path) -> None:
    modules = models()
    before = weights(modules)

    def losses(modules: Mapping[str, nn.Module], batch: Tensor, step: int) -> Any:
        return {trained_model: modules["critic"](modules["maker"](batch)).square().mean()}, {}

    run(replace(CONFIG, steps=1, warmup_steps=0), tmp_path, modules, batch_at, losses)
    after = weights(modules)
    trained = (
        {name for name, _ in modules["maker"].named_parameters()} - {"frozen"} if trained_model == "maker" else set()
    )
    trained |= {name for name, _ in modules["critic"].named_parameters()} if trained_model == "critic" else set()
    for name in before:
        model, _, key = name.partition(".")
        if model == trained_model and key in trained and "bias" not in key:
            assert not torch.equal(before[name], after[name]), name
        elif model != trained_model and "running" not in key and "num_batches" not in key:
            assert torch.equal(before[name], after[name]), name
    assert torch.equal(after["maker.frozen"], before["maker.frozen"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_a_clear_error(bad: float, tmp_path: Path) -> None:
    def losses(modules: Mapping[str, nn.Module], batch: Tensor, step: int) -> Any:
        losses, metrics = losses_of(modules, batch, step)
        return {name: loss * (bad if step == 4 else 1) for name, loss in losses.items()}, metrics

    with pytest.raises(VoicegraftError, match=r"loss is (nan|inf|-inf) at step 4; lower the learning rate"):
        run(CONFIG, tmp_path, models(), batch_at, losses)
    saved = json.loads((tmp_path / "resume" / "config.json").read_text())
    assert saved["config"]["step"] == 3


def test_a_truncated_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    run(CONFIG, tmp_path, models(), batch_at, losses_of)
    path = tmp_path / "resume" / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(VoicegraftError, match="damaged"):
        run(CONFIG, tmp_path, models(), batch_at, losses_of)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run(replace(CONFIG, steps=1), tmp_path, models(), batch_at, losses_of)
    with pytest.raises(VoicegraftError, match="run of 1 steps, this one has 7"):
        run(CONFIG, tmp_path, models(), batch_at, losses_of)
    other = {"maker": Maker()}
    with pytest.raises(VoicegraftError, match="another model"):
        run(replace(CONFIG, steps=1), tmp_path, other, batch_at, losses_of)
    wider = models()
    wider["critic"] = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 1))
    with pytest.raises(VoicegraftError, match=r"another model \(for example critic/adamw/0.bias"):
        run(replace(CONFIG, steps=1), tmp_path, wider, batch_at, losses_of)
    with pytest.raises(VoicegraftError, match="run of 1 batches per step, this one has 2"):
        run(replace(CONFIG, steps=1, batches_per_step=2), tmp_path, models(), batch_at, losses_of)


def test_the_batches_of_a_step_are_averaged(tmp_path: Path) -> None:
    numbers: list[int] = []

    def half(number: int) -> Tensor:
        numbers.append(number)
        return batch_at(number // 2)[number % 2 :: 2]

    def loss(modules: Mapping[str, nn.Module], batch: Tensor, step: int) -> Any:
        return {"critic": modules["critic"](batch).square().mean()}, {}

    config = replace(CONFIG, precision="no")
    whole, halves = models(), models()
    run(config, tmp_path / "whole", whole, batch_at, loss)
    run(replace(config, batches_per_step=2), tmp_path / "halves", halves, half, loss)
    assert numbers == list(range(14))
    torch.testing.assert_close(weights(halves), weights(whole), atol=1e-5, rtol=0.0)


def test_the_log_holds_means(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def losses(modules: Mapping[str, nn.Module], batch: Tensor, step: int) -> Any:
        if step == 3 and not (tmp_path / "run" / "resume").exists():
            os.kill(os.getpid(), signal.SIGTERM)
        return {"maker": modules["maker"](batch).mean() * 0 + step}, {}

    config = replace(CONFIG, log_every=3, save_every=100)
    assert not run(config, tmp_path / "run", {"maker": Maker()}, batch_at, losses)
    assert run(config, tmp_path / "run", {"maker": Maker()}, batch_at, losses)
    events = EventAccumulator(str(tmp_path / "run" / "log"))
    events.Reload()
    # Steps 0 to 2 before the stop after step 3; then 4 and 5, since the stopped process took step 3 with it.
    assert [(e.step, e.value) for e in events.Scalars("loss/maker")] == [(3, 1.0), (6, 4.5)]


def test_the_learning_rate_rises_from_near_zero_and_falls_to_its_final_share() -> None:
    config = LoopConfig(steps=100, warmup_steps=10, final_lr=0.1)
    rates = [config.lr_at(step) for step in range(100)]
    assert rates[:11] == pytest.approx([(s + 1) / 11 for s in range(11)])
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert config.lr_at(10) == 1.0
    assert config.lr_at(55) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert config.lr_at(100) == pytest.approx(0.1)
    assert LoopConfig(steps=5, warmup_steps=0).lr_at(0) == 1.0
    assert 0 < LoopConfig(steps=3, warmup_steps=10).lr_at(2) < 1  # a warm-up longer than the run


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"warmup_steps": -1},
        {"precision": "fp8"},
        {"save_every": 0},
        {"log_every": 0},
        {"batches_per_step": 0},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        LoopConfig(**wrong)


def test_validation_finds_the_models_in_evaluation_mode_and_without_gradients(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    seen = []

    def validate(step: int) -> dict[str, float]:
        seen.append((step, model.training, torch.is_inference_mode_enabled()))
        return {}

    def losses_of(models: Mapping[str, nn.Module], batch: torch.Tensor, step: int) -> Any:
        assert model.training and not torch.is_inference_mode_enabled()
        return {"one": models["one"](batch).mean()}, {}

    assert run(CONFIG, tmp_path, {"one": model}, lambda number: torch.ones(3, 2), losses_of, validate)
    assert seen == [(4, False, True), (7, False, True)]


@pytest.mark.parametrize(("precision", "native", "wanted"), [
    ("auto", True, True), ("auto", False, False), ("bf16", False, True), ("no", True, False),
])  # fmt: skip
def test_autocast_is_taken_where_the_device_has_it(
    precision: str, native: bool, wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voicegraft.train import loop

    def losses(modules: Mapping[str, nn.Module], batch: Tensor, step: int) -> Any:
        seen.add(torch.is_autocast_enabled("cpu"))
        return losses_of(modules, batch, step)

    seen: set[bool] = set()
    monkeypatch.setattr(loop, "has_bfloat16", lambda device: native)
    run(replace(CONFIG, steps=1, precision=precision), tmp_path, models(), batch_at, losses)
    assert seen == {wanted}
