"""Every YAML that the package ships is a valid configuration of its recipe."""

import importlib
import re
from pathlib import Path

import pytest

import voicegraft.recipes
from benchmarks import paper_table as reproduce
from pocket import build as pocket
from pocket import prepare as prepare_pocket
from pocket import train_backbone
from pocket.speech import SPEAKERS, SpeechConfig
from tools.tokenizer_study import study as evaluate_tokenizer
from voicegraft.cli.verbs import EVALUATIONS, RECIPES, VERBS
from voicegraft.core.config import load_config
from voicegraft.core.errors import VoicegraftError
from voicegraft.recipes import (
    command,
    graft,
    tokenize,
    train_acoustic,
    train_codec,
    train_connector,
    train_listening,
    train_monitor,
    train_router,
    train_semantic,
    train_speech,
    train_text,
    train_vocoder,
)

FOLDER = Path(voicegraft.recipes.__file__).parent / "configs"
# Those for Accelerate's launcher are its own (tests/train).
CONFIGS = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent.name != "accelerate")
CLASS_OF = {
    "acoustic": train_acoustic.TrainAcousticConfig,
    "backbone": train_backbone.BackboneConfig,
    "codec": train_codec.TrainCodecConfig,
    "connector": train_connector.TrainConnectorConfig,
    "graft": graft.GraftConfig,
    "pocket": pocket.PocketConfig,
    "monitor": train_monitor.TrainMonitorConfig,
    "joint": train_speech.TrainSpeechConfig,
    "prepare_pocket": prepare_pocket.PreparePocketConfig,
    "reproduce": reproduce.ReproduceConfig,
    "router": train_router.TrainRouterConfig,
    "semantic": train_semantic.TrainSemanticConfig,
    "speech": train_speech.TrainSpeechConfig,
    "text": train_text.TrainTextConfig,
    "tokenize": tokenize.TokenizeConfig,
    "tokenizer": evaluate_tokenizer.EvaluateTokenizerConfig,
    "vocoder": train_vocoder.TrainVocoderConfig,
}


LISTENING = ("mtbi", "voicetextblender")  # folders of configurations of one recipe


def class_of(path: Path) -> type:
    return train_listening.TrainListeningConfig if path.parent.name in LISTENING else CLASS_OF[path.stem]


def test_there_are_configurations() -> None:
    assert len(CONFIGS) >= 6


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_shipped_configuration_is_valid(path: Path) -> None:
    config = load_config(class_of(path), path, ["work=elsewhere"])
    assert str(config.work) == "elsewhere"


@pytest.mark.parametrize("cls", sorted({*CLASS_OF.values()} - {graft.GraftConfig}, key=str), ids=lambda c: c.__name__)
def test_every_recipe_runs_on_its_defaults(cls: type) -> None:
    load_config(cls, None)


def test_the_parts_of_the_pocket_recipe_fit() -> None:
    """What one stage makes is what the next one is built for."""
    by_name = {p.stem: load_config(CLASS_OF[p.stem], p) for p in CONFIGS if p.parent.name == "pocket"}
    codec, vocoder, semantic = by_name["codec"].model, by_name["vocoder"].model, by_name["semantic"].model
    assert codec.mel.sample_rate == vocoder.sample_rate == semantic.mel.sample_rate
    assert codec.mel.hop * codec.stride == vocoder.hop == semantic.mel.hop * semantic.stride
    books = (codec.num_codebooks, codec.codebook_size, codec.latent_width)
    assert books == (vocoder.num_codebooks, vocoder.codebook_size, vocoder.code_width)
    speech = SpeechConfig()
    spoken = (*speech.recordings, *speech.readings)
    assert {by_name[name].corpora for name in ("semantic", "vocoder", "monitor", "speech", "joint")} == {spoken}
    assert {by_name[name].corpora for name in ("codec", "acoustic")} == {(*spoken, SPEAKERS)}


def test_a_recipe_takes_a_file_and_overrides(tmp_path: Path) -> None:
    (tmp_path / "codec.yaml").write_text("batch_size: 3\nloop: {steps: 5}\n")
    arguments = [str(tmp_path / "codec.yaml"), "loop.lr=0.5", "crop_frames=7"]
    config = command.recipe_config(train_codec.TrainCodecConfig, "doc", arguments)
    assert (config.batch_size, config.loop.steps, config.loop.lr, config.crop_frames) == (3, 5, 0.5, 7)
    with pytest.raises(VoicegraftError, match="did you mean 'batch_size'"):
        command.recipe_config(train_codec.TrainCodecConfig, "doc", ["batchsize=3"])
    with pytest.raises(VoicegraftError, match="at most one config file"):
        command.recipe_config(train_codec.TrainCodecConfig, "doc", ["pocket/codec", "small/graft"])


def test_a_packaged_config_is_found_by_name_and_a_users_own_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    packaged = command.find_config("pocket/speech")
    assert packaged == command.find_config("pocket/speech.yaml") == FOLDER / "pocket" / "speech.yaml"
    (tmp_path / "pocket").mkdir()
    (tmp_path / "pocket" / "speech.yaml").write_text("batch_positions: 3\n")
    assert command.find_config("pocket/speech.yaml") == Path("pocket/speech.yaml")
    with pytest.raises(VoicegraftError, match=r"cannot read config pocket/sing: no such file; .*pocket/speech"):
        command.find_config("pocket/sing")


def named_configs(text: str) -> list[str]:
    return re.findall(
        r"\b(?:assistant|pocket|tiny|small|full|mtbi|voicetextblender)/\w+(?:\.yaml)?(?= |$)", text, re.MULTILINE
    )


@pytest.mark.parametrize(
    "module",
    sorted({*RECIPES.values(), *VERBS.values(), *EVALUATIONS.values(), "pocket.build", "pocket.train_backbone"}),
)
def test_the_configs_that_help_names_open(module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    doc = importlib.import_module(module).__doc__ or ""
    assert "configs/" not in doc
    for name in named_configs(doc):
        assert command.find_config(name).is_file()


def test_configs_say_commands_that_open_them() -> None:
    for path in CONFIGS:
        told = [line for line in path.read_text().splitlines() if re.match("# .*(voicegraft|python -m)", line)]
        assert [command.find_config(name) for line in told for name in named_configs(line)] == [path], path
