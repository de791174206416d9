import json
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal

import pytest

from voicegraft.core.config import from_dict, load_config, to_dict
from voicegraft.core.errors import VoicegraftError


class Kind(Enum):
    WARM = "warm"
    COLD = "cold"


@dataclass(frozen=True)
class Optimizer:
    learning_rate: float = 1e-3  # per step
    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")


@dataclass(frozen=True)
class Voice:
    name: str
    pitch: float | None = None  # Hz


@dataclass(frozen=True)
class Recipe:
    out_dir: Path
    num_steps: int = 10
    resume: bool = True
    mode: Literal["speech", "text"] = "speech"
    kind: Kind = Kind.WARM
    optimizer: Optimizer = field(default_factory=Optimizer)
    voices: tuple[Voice, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    budget: int | float | None = None  # steps, or seconds
    notes: list[str] = field(default_factory=list)


FULL = """
out_dir: runs/a
num_steps: 3
resume: false
mode: text
kind: cold
optimizer: {learning_rate: 1e-4, betas: [0.5, 0.75]}
voices:
  - {name: kathleen, pitch: 200}
  - name: linda
weights: {books: 2, speech: 0.5}
budget: 1.5
notes: [one, two]
"""


@pytest.fixture
def full(tmp_path: Path) -> Path:
    path = tmp_path / "full.yaml"
    path.write_text(FULL)
    return path


def test_yaml_becomes_typed_values(full: Path) -> None:
    config = load_config(Recipe, full)
    assert config == Recipe(
        out_dir=Path("runs/a"),
        num_steps=3,
        resume=False,
        mode="text",
        kind=Kind.COLD,
        optimizer=Optimizer(learning_rate=1e-4, betas=(0.5, 0.75)),
        voices=(Voice("kathleen", 200.0), Voice("linda")),
        weights={"books": 2.0, "speech": 0.5},
        budget=1.5,
        notes=["one", "two"],
    )
    assert isinstance(config.voices[0].pitch, float)


def test_to_dict_and_from_dict_are_inverse_through_json(full: Path) -> None:
    config = load_config(Recipe, full)
    assert from_dict(Recipe, json.loads(json.dumps(to_dict(config)))) == config


def test_without_a_file_defaults_and_overrides_make_the_config() -> None:
    overrides = [
        "out_dir=x",
        "optimizer.learning_rate=1e-2",
        "mode=text",
        "voices=[{name: a}]",
        "weights.books=3",
    ]
    config = load_config(Recipe, None, overrides)
    assert config.out_dir == Path("x")
    assert config.optimizer == Optimizer(learning_rate=0.01)
    assert config.voices == (Voice("a"),)
    assert config.weights == {"books": 3.0}


def test_overrides_win_over_the_file_and_leave_its_other_keys(full: Path) -> None:
    config = load_config(Recipe, full, ["optimizer.learning_rate=0.5", "budget=null"])
    assert config.optimizer == Optimizer(learning_rate=0.5, betas=(0.5, 0.75))
    assert config.budget is None


def test_no_is_a_word_and_false_is_not(full: Path) -> None:
    config = load_config(Recipe, full, ["voices=[{name: no}]", "notes=[on, yes, off]", "resume=true"])
    assert config.voices == (Voice("no"),) and config.notes == ["on", "yes", "off"] and config.resume is True
    with pytest.raises(VoicegraftError, match="expected bool, got 'no'"):
        load_config(Recipe, full, ["resume=no"])


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert load_config(Optimizer, path) == Optimizer()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("out_dir: x\nnum_step: 3", ["bad.yaml", "num_step", "did you mean 'num_steps'"]),
        ("out_dir: x\noptimizer: {learning_rat: 1}", ["optimizer.learning_rat", "'learning_rate'"]),
        ("out_dir: x\nzzzzzz: 3", ["zzzzzz", "valid keys: out_dir, num_steps"]),
        ("num_steps: 3", ["out_dir", "missing", "Path"]),
        ("out_dir: x\nvoices: [{pitch: 3}]", ["voices.name", "missing"]),
        ("out_dir: x\nnum_steps: 3.5", ["num_steps", "expected int", "3.5"]),
        ("out_dir: x\nnum_steps: true", ["num_steps", "expected int", "True"]),
        ("out_dir: x\nresume: 1", ["resume", "expected bool"]),
        ("out_dir: x\nmode: song", ["mode", "one of speech, text", "'song'"]),
        ("out_dir: x\nkind: hot", ["kind", "one of warm, cold", "'hot'"]),
        ("out_dir: x\noptimizer: 3", ["optimizer", "expected Optimizer", "3"]),
        ("out_dir: x\noptimizer: {betas: [1]}", ["optimizer.betas", "2 items", "got 1"]),
        ("out_dir: x\noptimizer: {learning_rate: fast}", ["optimizer.learning_rate", "float", "'fast'"]),
        ("out_dir: x\noptimizer: {learning_rate: -1}", ["optimizer", "must be positive"]),
        ("out_dir: x\nbudget: long", ["budget", "float", "'long'"]),
        ("out_dir: x\nnotes: one", ["notes", "list", "'one'"]),
        ("- a\n- b", ["bad.yaml", "mapping"]),
        ("a: [", ["bad.yaml", "not valid YAML"]),
    ],
)
def test_a_bad_file_is_refused_with_its_key(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(VoicegraftError) as error:
        load_config(Recipe, path)
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("override", ["num_steps", "=3", "optimizer..x=3", "num_steps=[", "num_stepz=3"])
def test_a_bad_override_is_refused(full: Path, override: str) -> None:
    with pytest.raises(VoicegraftError, match=r"override|command line: num_stepz"):
        load_config(Recipe, full, [override])


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match="No such file"):
        load_config(Recipe, tmp_path / "none.yaml")
