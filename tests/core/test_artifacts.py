import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from voicegraft.core import artifacts
from voicegraft.core.artifacts import WEIGHTS_NAME, atomic_folder, fingerprint, load_artifact, save_artifact
from voicegraft.core.errors import VoicegraftError


@dataclass(frozen=True)
class Config:
    width: int = 4


def some_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(4, 3, generator=generator),
        "table": torch.arange(5),
        "small": torch.randint(-128, 127, (6,), generator=generator, dtype=torch.int8),
        "nothing": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
    }


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    tensors = some_tensors()
    save_artifact(tmp_path / "deep" / "a", "toy", Config(7), tensors, {"seed": 3})
    artifact = load_artifact(tmp_path / "deep" / "a", "toy", Config)
    assert artifact.config == Config(7)
    assert artifact.provenance == {"seed": 3}
    assert artifact.fingerprint == fingerprint(tensors)
    assert artifact.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert artifact.tensors[name].dtype == tensor.dtype
        assert torch.equal(artifact.tensors[name], tensor)
    assert sorted(os.listdir(tmp_path / "deep")) == ["a"], "helpers of the writing stay behind"
    assert sorted(os.listdir(tmp_path / "deep" / "a")) == ["config.json", "weights.safetensors"]


def test_half_precision_is_stored_small_and_loaded_as_float32(tmp_path: Path) -> None:
    tensors = {"weight": torch.randn(1000), "table": torch.arange(10)}
    save_artifact(tmp_path / "a", "toy", Config(), tensors, dtype=torch.bfloat16)
    artifact = load_artifact(tmp_path / "a", "toy", Config)
    assert artifact.tensors["weight"].dtype == torch.float32
    assert torch.equal(artifact.tensors["weight"], tensors["weight"].bfloat16().float())
    assert torch.equal(artifact.tensors["table"], tensors["table"])
    assert artifact.fingerprint == fingerprint({**tensors, "weight": tensors["weight"].bfloat16()})
    assert (tmp_path / "a" / "weights.safetensors").stat().st_size < 2600


def test_int8_keeps_every_value_to_half_a_step_of_its_row(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    size = torch.logspace(-3, 3, 10)
    tensors = {
        "long": torch.randn(10, 200, generator=generator) * size[:, None],
        "books": torch.randn(3, 10, 64, generator=generator) * size[:, None],
        "kernel": torch.randn(10, 16, 5, generator=generator) * size[:, None, None],
        "zero": torch.zeros(4, 100),
        "bias": torch.randn(50, generator=generator),
        "count": torch.arange(300),
    }
    save_artifact(tmp_path / "a", "toy", Config(), tensors, dtype=torch.int8)
    loaded = load_artifact(tmp_path / "a", "toy", Config).tensors
    assert set(loaded) == set(tensors)
    for name, row in (("long", (1,)), ("books", (2,)), ("kernel", (1, 2))):
        step = tensors[name].abs().amax(row, keepdim=True) / 127
        assert loaded[name].dtype == torch.float32 and ((loaded[name] - tensors[name]).abs() <= 0.501 * step).all()
    assert not loaded["zero"].any()
    assert torch.equal(loaded["bias"], tensors["bias"].half().float()) and torch.equal(
        loaded["count"], tensors["count"]
    )
    save_artifact(tmp_path / "plain", "toy", Config(), {"long": tensors["long"]}, dtype=torch.float16)
    save_artifact(tmp_path / "small", "toy", Config(), {"long": tensors["long"]}, dtype=torch.int8)
    sizes = [(tmp_path / name / WEIGHTS_NAME).stat().st_size for name in ("plain", "small")]
    assert sizes[1] < 0.6 * sizes[0]


def test_tied_and_strided_tensors_are_saved(tmp_path: Path) -> None:
    weight = torch.randn(3, 4)
    tensors = {
        "in": weight,
        "out": weight,
        "turned": weight.T,
        "row": weight[1],
        "wide": weight[:, :1].expand(3, 9),
    }
    save_artifact(tmp_path / "a", "toy", Config(), tensors)
    loaded = load_artifact(tmp_path / "a", "toy", Config).tensors
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_the_fingerprint_sees_names_shapes_types_and_values() -> None:
    base = {"a": torch.arange(6.0), "b": torch.ones(2)}
    same = {"b": torch.ones(2), "a": torch.arange(6.0)}
    assert fingerprint(base) == fingerprint(same)
    perturbed = torch.arange(6.0)
    perturbed[3] += 1e-6
    others = [
        {"a": torch.arange(6.0)},
        {"c": base["a"], "b": base["b"]},
        {"a": base["a"].view(2, 3), "b": base["b"]},
        {"a": torch.arange(6), "b": base["b"]},
        {"a": perturbed, "b": base["b"]},
        {"a": base["b"], "b": base["a"]},
    ]
    prints = [fingerprint(tensors) for tensors in [base, *others]]
    assert len(set(prints)) == len(prints)
    assert all(len(text) == 16 and int(text, 16) >= 0 for text in prints)


def edit_header(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    header = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in header.items() if value is not None}))


def flip_last_byte(folder: Path) -> None:
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def truncate(folder: Path) -> None:
    os.truncate(folder / "weights.safetensors", 100)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: edit_header(folder, kind="other"), "found a other"),
        (lambda folder: edit_header(folder, kind=None), "not ours"),
        (lambda folder: edit_header(folder, format=artifacts.FORMAT + 1), "upgrade voicegraft"),
        (lambda folder: edit_header(folder, sha256=None), "sha256 missing"),
        (lambda folder: edit_header(folder, config={"widht": 3}), "did you mean 'width'"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot read"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "not ours"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe\x00"), "cannot read"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "No such file"),
        (truncate, "damaged"),
        (flip_last_byte, "damaged"),
    ],
)
def test_a_harmed_artifact_does_not_load(tmp_path: Path, harm: Callable[[Path], Any], message: str) -> None:
    folder = tmp_path / "a"
    save_artifact(folder, "toy", Config(), some_tensors())
    harm(folder)
    with pytest.raises(VoicegraftError, match=message):
        load_artifact(folder, "toy", Config)


def test_weights_that_are_no_safetensors_do_not_load(tmp_path: Path) -> None:
    save_artifact(tmp_path / "a", "toy", Config(), some_tensors())
    foreign = tmp_path / "a" / "weights.safetensors"
    foreign.write_bytes(b"not tensors at all")
    edit_header(tmp_path / "a", sha256=artifacts.file_digest(foreign))
    with pytest.raises(VoicegraftError, match="cannot read"):
        load_artifact(tmp_path / "a", "toy", Config)


def test_a_missing_artifact_says_so(tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match=r"expected a toy in .*does not exist"):
        load_artifact(tmp_path / "a", "toy", Config)


def test_saving_again_replaces(tmp_path: Path) -> None:
    save_artifact(tmp_path / "a", "toy", Config(1), some_tensors(1))
    save_artifact(tmp_path / "a", "toy", Config(2), {"only": torch.ones(1)})
    artifact = load_artifact(tmp_path / "a", "toy", Config)
    assert artifact.config == Config(2) and artifact.tensors.keys() == {"only"}
    assert os.listdir(tmp_path) == ["a"]


def test_saving_never_costs_anybody_their_files(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(VoicegraftError, match="holds other files"):
        save_artifact(tmp_path, "toy", Config(), some_tensors())
    with pytest.raises(VoicegraftError, match="found a file"):
        save_artifact(tmp_path / "diary.txt", "toy", Config(), some_tensors())
    assert (tmp_path / "diary.txt").read_text() == "dear diary"


def test_an_error_while_writing_leaves_the_old_one(tmp_path: Path) -> None:
    save_artifact(tmp_path / "a", "toy", Config(1), some_tensors())
    with pytest.raises(RuntimeError, match="interrupted"), atomic_folder(tmp_path / "a") as partial:
        (partial / "config.json").write_text("half")
        raise RuntimeError("interrupted")
    assert load_artifact(tmp_path / "a", "toy", Config).config == Config(1)
    assert os.listdir(tmp_path) == ["a"]


class Killed(BaseException):
    """Stands for a process that is gone."""


def kill_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """Ends the process at that change to the disk; the dead clean up nothing, so later ones fail too."""
    num_calls = 0

    def mortal(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal num_calls
            num_calls += 1
            if num_calls >= step:
                raise Killed
            return function(*args, **kwargs)

        return call

    for owner, name in [(Path, "mkdir"), (Path, "rename"), (os, "fsync"), (shutil, "rmtree")]:
        patch.setattr(owner, name, mortal(getattr(owner, name)))


def test_killed_at_any_step_an_artifact_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    found = []
    for step in range(1, 50):
        save_artifact(folder, "toy", Config(1), {"weight": torch.full((3,), 1.0)})
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, step)
            try:
                save_artifact(folder, "toy", Config(2), {"weight": torch.full((3,), 2.0)})
                finished = True
            except Killed:
                finished = False
        artifact = load_artifact(folder, "toy", Config)
        assert torch.equal(artifact.tensors["weight"], torch.full((3,), float(artifact.config.width)))
        found.append(artifact.config.width)
        if finished:
            break
    assert finished and len(found) >= 10
    assert found == sorted(found) and found[0] == 1 and found[-1] == 2
    # What a killed writer left behind is cleared away by the next.
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 4)
        save_artifact(folder, "toy", Config(2), some_tensors())
    assert os.listdir(tmp_path) != ["a"]
    save_artifact(folder, "toy", Config(3), some_tensors())
    assert os.listdir(tmp_path) == ["a"]


def test_a_full_disk_is_reported_and_leaves_the_old_one(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    save_artifact(tmp_path / "a", "toy", Config(1), {"weight": torch.ones(10)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        with pytest.raises(VoicegraftError, match="cannot write"):
            save_artifact(tmp_path / "a", "toy", Config(2), {"weight": torch.ones(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_artifact(tmp_path / "a", "toy", Config).config == Config(1)
    assert os.listdir(tmp_path) == ["a"]
