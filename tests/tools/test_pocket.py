"""The pocket pack is a graft whose speech, backbone and tokenizers are made first."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pocket import build
from voicegraft.core.errors import VoicegraftError
from voicegraft.recipes import graft as road

STAGES = {  # in their order; the function of each, and where it lives
    "words": (build, "prepare_pocket"),
    "backbone": (build, "train_backbone"),
    "readings": (build, "make_readings"),
    "speech": (build, "prepare_speech"),
    "align": (build, "align"),
    "speakers": (build, "prepare_speakers"),
    "semantic": (build, "train_semantic"),
    "codec": (road, "train_codec"),
    "tokens": (road, "tokenize"),
    "vocoder": (road, "train_vocoder"),
    "monitor": (road, "train_monitor"),
    "acoustic": (road, "train_acoustic"),
    "expert": (road, "train_speech"),
    "router": (road, "train_router"),
}

RESULTS = {  # where they are not called as the stage, and what else it makes
    "words": ["lexicon.json"],
    "align": ["alignments/round0/done"],
    "speakers": ["held-out"],
    "acoustic": ["acoustic", "voice"],
}


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Stage -> the arguments that its recipe was given; each only makes its folders."""
    given: dict[str, Any] = {}
    for name, (module, function) in STAGES.items():

        def run(*arguments: Any, name: str = name) -> None:
            given[name] = arguments[0] if len(arguments) == 1 else arguments
            for result in RESULTS.get(name, [name]):
                (tmp_path / "work" / result).mkdir(parents=True)

        monkeypatch.setattr(module, function, run)

    def keeps(parts: Path, names: dict[str, str]) -> None:
        given["voices"] = (parts, names)

    monkeypatch.setattr(build, "keep_voices", keeps)
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
    work, data = tmp_path / "work", tmp_path / "data"
    assert list(done) == [*STAGES, "voices"]
    recipes = [done[name] for name in STAGES if name not in ("readings", "speech", "speakers")]
    assert {config.work for config in recipes} == {str(work)}
    assert done["words"].data == done["backbone"].data == str(data)
    speech, where = done["readings"]
    assert where == work and done["speech"] == done["speakers"] == (speech, data, work)
    assert list(speech.readings) == ["heart", "michael", "isabella", "voices", "mixtures"]
    assert done["backbone"].vocab_size == 2048
    assert done["semantic"].aligned == str(work / "alignments" / "round0")
    assert [one.loop.steps for one in done["expert"].rounds] == [2200]
    assert done["expert"].backbone == str(work / "backbone")
    # The voices are taken out of a copy, the work folder's parts stay.
    parts, names = done["voices"]
    assert list(names.values()) == ["heart", "michael", "isabella", "kathleen", "LJ"] and parts == work / "shipped"
    assert {path.name for path in parts.iterdir()} == {*build.PARTS} - {"listening"} and all(
        (work / part).is_dir() for part in build.PARTS if part != "listening"
    )
    assert done["router"].questions.dialogue > 0  # unlike another graft, it has the corpora for these
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{tmp_path / 'pack'}: ")
    done.clear()
    build.main(options(tmp_path))
    assert list(done) == ["voices"]  # the pack is gathered again


def test_a_work_folder_of_another_configuration_is_refused(
    tmp_path: Path, done: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    build.main(options(tmp_path))
    shutil.copytree(build.CONFIGS, tmp_path / "configs")
    (tmp_path / "configs" / "pocket" / "speech.yaml").write_text("lora: {rank: 3}\n")
    monkeypatch.setattr(build, "CONFIGS", tmp_path / "configs")
    with pytest.raises(VoicegraftError, match="begun with another speech and has done expert with it"):
        build.main(options(tmp_path))
