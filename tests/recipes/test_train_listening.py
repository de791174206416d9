"""`recipe train_listening`: what it learns from, that a kill changes nothing, and that the LLM stays as it was."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from tests.whispers import write_whisper
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Waveform
from voicegraft.data.chat import AUDIO, encode
from voicegraft.data.features import HeardSpeech
from voicegraft.data.listening_sequences import Interleaving
from voicegraft.data.responses import UNKNOWN, Response, Tokens, write_block
from voicegraft.encoders.listening import EncoderSettings
from voicegraft.fusion.backbone import load_backbone
from voicegraft.fusion.connectors.base import open_connector
from voicegraft.fusion.experts import LISTENING, Expert, LoraSettings
from voicegraft.fusion.listening import Hearing, ListeningHeader
from voicegraft.fusion.listening_training import ListeningTraining
from voicegraft.recipes import train_listening as recipe
from voicegraft.recipes.encode import EncodeConfig
from voicegraft.recipes.encode import encode as encode_speech
from voicegraft.recipes.train_listening import Material, PortionConfig, TrainListeningConfig, train_listening
from voicegraft.train.config import LoopConfig

LOOP = LoopConfig(steps=4, lr=0.01, warmup_steps=0, save_every=2, validate_every=4, log_every=2, precision="no")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("made")
    tiny.write_made_up_speech(work)
    tiny.write_backbone(work / "backbone")
    whisper = str(write_whisper(work / "whisper", seconds=4))
    encode_speech(EncodeConfig(str(work), EncoderSettings(whisper), str(work / "backbone"), whisper, device="cpu"))
    random = np.random.default_rng(0)
    rows = []
    for text in tiny.SENTENCES[:4]:
        ids = np.asarray([*encode(tiny.byte_tokenizer(), "Owls."), 1], dtype=np.int32)
        top = Tokens(
            ids, random.integers(0, 258, (len(ids), 3), dtype=np.int32), np.full((len(ids), 3), -2, np.float16)
        )
        split = "val" if text == tiny.SENTENCES[3] else "train"
        rows += [(Response(task, "Topic?\n{audio}", text, "Owls.", split), top) for task in ("topic", "answer")]
    rows.append((Response("topic", "{audio}", "Nobody says this.", "Owls."), UNKNOWN))
    write_block(work / "imitation", 0, rows)
    write_block(work / "chats", 0, [(Response("chat", "Where is it?", "", "Here."), UNKNOWN)])
    return work


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def config(work: Path, **changes: object) -> TrainListeningConfig:
    shape = {"stacked": 4, "hidden": 16}
    settings = TrainListeningConfig(
        work=str(work), new="stack", shape=shape, loop=LOOP, batch_positions=400, device="cpu"
    )
    return replace(settings, **changes)  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return open_connector(folder / "connector").state_dict()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("interleaving", [Interleaving(), Interleaving(0.8, 0.6, 0.2, 2)])
def test_a_killed_run_ends_as_an_unbroken_one(
    work: Path, interleaving: Interleaving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(work, interleaving=interleaving)
    train_listening(replace(settings, out="whole"))
    told = capsys.readouterr().out.splitlines()
    hashes = [line.split()[2] for line in told if "backbone" in line]
    assert len(hashes) == 2 and len({*hashes}) == 1 and "whole: imitation: 6 rows to learn from" in told
    forward, seen = ListeningTraining.forward, []

    def dies(self: ListeningTraining, batch: object) -> object:
        seen.append(batch)
        if len(seen) == 4:
            raise Killed
        return forward(self, batch)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(ListeningTraining, "forward", dies)
        train_listening(settings)
    train_listening(settings)
    whole = weights(work / "whole")
    for name, tensor in weights(work / "listening").items():
        assert torch.equal(tensor, whole[name]), name


def test_an_llm_that_was_changed_is_not_saved(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = ListeningTraining.forward

    def changes(self: ListeningTraining, batch: object) -> object:
        with torch.no_grad():
            self.backbone.get_input_embeddings().weight[0] += 1
        return forward(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(ListeningTraining, "forward", changes)
    with pytest.raises(VoicegraftError, match="the backbone was changed"):
        train_listening(config(work))
    assert not (work / "listening").exists()


def test_one_modality_a_step_by_its_share_and_a_lora_beside(work: Path) -> None:
    blend = {
        "recognition": PortionConfig(3.0),
        "imitation": PortionConfig(1.0, "imitation", ("topic",)),
        "chats": PortionConfig(1.0, "chats"),
    }
    settings = config(work, blend=blend, speech_share=0.75, lora=LoraSettings(rank=4, alpha=4))
    backbone, tokenizer = load_backbone(work / "backbone")
    connector = recipe._connector(settings, None, None, backbone)
    material = Material(settings, ListeningTraining(backbone, tokenizer, connector, settings.lora))
    batches = [material(number) for number in range(200)]
    with_speech = [all(AUDIO in item.ids for item in batch.items) for batch in batches]
    assert with_speech == [any(AUDIO in item.ids for item in batch.items) for batch in batches]
    assert abs(np.mean(with_speech) - 0.75) < 0.1
    recognised = [not (b.top_ids >= 0).any() for b, speech in zip(batches, with_speech, strict=True) if speech]
    assert abs(np.mean(recognised) - 0.75) < 0.12
    train_listening(settings)
    assert Expert.load(work / "listening" / LISTENING).layers
    train_listening(replace(settings, begin="listening", out="second", loop=replace(LOOP, steps=1)))
    assert (work / "second" / LISTENING).is_dir()


def test_test_voices_and_held_speakers_are_not_learnt_from(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backbone, tokenizer = load_backbone(work / "backbone")
    settings = config(work, held_speakers=("ann",), blend={"recognition": PortionConfig()})
    model = ListeningTraining(backbone, tokenizer, recipe._connector(settings, None, None, backbone))
    material = Material(settings, model)
    said = {clip.utterance.speaker for part, _ in material.portions[True] for *_, clips in part.rows for clip in clips}
    assert said == {"ben", "flite-slt"}
    splits = {clip.utterance.split for part, _ in material.portions[True] for *_, clips in part.rows for clip in clips}
    assert splits == {"train"}
    with pytest.raises(VoicegraftError, match="no row has a transcript that somebody says"):
        Material(replace(settings, held_speakers=("ann", "ben", "flite-slt")), model)


def test_an_encoder_may_learn_from_recordings(work: Path) -> None:
    settings = config(
        work, train_encoder=True, encoder=EncoderSettings(str(work / "whisper")), loop=replace(LOOP, steps=1)
    )
    train_listening(replace(settings, interleaving=Interleaving(0.5)))
    connector = open_connector(work / "listening" / "connector")
    assert connector.config.encoder != HeardSpeech(work).header.fingerprint
    assert ListeningHeader.read(work / "listening").mode == "pure"
    backbone, tokenizer = load_backbone(work / "backbone")
    hearing = Hearing.load(work / "listening", backbone, tokenizer)
    assert len(hearing.listen([Waveform(np.zeros(9000, dtype=np.float32), 16_000)])[0]) > 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"speech_share": 0.5}, "without a lora"),
        ({"transcript_beside": True, "interleaving": Interleaving(0.5)}, "not interleaved"),
        ({"blend": {}}, "a weight above 0"),
    ],
)
def test_settings_that_contradict_are_told(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        config(tmp_path, **changes)
