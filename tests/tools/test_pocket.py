"""The pocket pack is a graft whose data, backbone and tokenizers are made first."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pocket import build
from voicegraft.core.errors import VoicegraftError
from voicegraft.recipes import graft as road

STAGES = {  # in their order; the function of each, and where it lives
    "speech": (build, "prepare_pocket"),
    "backbone": (build, "train_backbone"),
    "semantic": (build, "train_semantic"),
    "codec": (road, "train_codec"),
    "tokens": (road, "tokenize"),
    "vocoder": (road, "train_vocoder"),
    "monitor": (road, "train_monitor"),
    "acoustic": (road, "train_acoustic"),
    "expert": (road, "train_speech"),
    "router": (road, "train_router"),
}


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Stage -> the configuration that its recipe was given; each only makes its folder."""
    given: dict[str, Any] = {}
    for name, (module, function) in STAGES.items():

        def run(config: Any, name: str = name) -> None:
            given[name] = config
            (Path(config.work) / name).mkdir(parents=True)

        monkeypatch.setattr(module, function, run)
    monkeypatch.setattr(
        build, "write_pack", lambda out, work, header, card: (out / "x").mkdir(parents=True, exist_ok=True)
    )
    return given


def options(tmp_path: Path) -> list[str]:
    return [f"work={tmp_path / 'work'}", f"out={tmp_path / 'pack'}", f"data={tmp_path / 'data'}", "evaluate=false"]


def test_the_plan_does_nothing(tmp_path: Path, done: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    build.main([*options(tmp_path), "--plan"])
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:-1]]
    assert shown == [*STAGES, "pack"] and not done


def test_every_recipe_gets_the_pockets_configuration_and_the_work_folder(
    tmp_path: Path, done: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    build.main(options(tmp_path))
    assert list(done) == list(STAGES) and {config.work for config in done.values()} == {str(tmp_path / "work")}
    assert done["speech"].data == done["backbone"].data == str(tmp_path / "data")
    assert done["backbone"].vocab_size == 2048 and done["semantic"].human_share == 0.4
    assert [one.loop.steps for one in done["expert"].rounds] == [1600, 1000]
    assert done["expert"].backbone == str(tmp_path / "work" / "backbone")
    assert done["router"].questions.dialogue > 0  # unlike another graft, it has the corpora for these
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{tmp_path / 'pack'}: ")
    done.clear()
    build.main(options(tmp_path))
    assert not done


def test_a_work_folder_of_another_configuration_is_refused(
    tmp_path: Path, done: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    build.main(options(tmp_path))
    shutil.copytree(build.CONFIGS, tmp_path / "configs")
    (tmp_path / "configs" / "pocket" / "speech.yaml").write_text("lora: {rank: 3}\n")
    monkeypatch.setattr(build, "CONFIGS", tmp_path / "configs")
    with pytest.raises(VoicegraftError, match="begun with another speech and has done expert with it"):
        build.main(options(tmp_path))
