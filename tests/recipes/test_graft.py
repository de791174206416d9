"""The whole road on made-up recordings: nothing is learnt, all must fit, whatever backbone, units, codec and layout."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from tests import codecs, encoders, tiny
from tests.whispers import write_whisper
from voicegraft import cli
from voicegraft.audio.io import write_audio
from voicegraft.core.config import load_config
from voicegraft.core.errors import VoicegraftError
from voicegraft.guard.guarded import GuardPolicy
from voicegraft.inference.listener import Listener
from voicegraft.inference.pack import DEFAULT_PACK, read_header
from voicegraft.inference.sentence import SpeakOptions
from voicegraft.inference.speaker import Speaker
from voicegraft.recipes import graft as road
from voicegraft.recipes import say as says
from voicegraft.recipes.graft import graft, main
from voicegraft.recipes.graft_config import GraftConfig
from voicegraft.recipes.stages import remember

ROOT = Path(__file__).resolve().parents[2]
LOOP = {"steps": 2, "warmup_steps": 1, "log_every": 1, "save_every": 1, "validate_every": 2, "precision": "no"}
TINY = {
    "workers": 1,
    "device": "cpu",
    "corpus": {"val_share": 0.3, "limits": {"min_sec": 0.1, "max_letters_per_sec": 60, "min_letters_per_sec": 0.5}},
    "monitor": {"dim": 4, "hidden": 8, "loop": LOOP, "batch_size": 16},
    "acoustic": {
        "corpora": [],
        "model": {
            "width": 16,
            "num_layers": 1,
            "num_heads": 2,
            "mlp_width": 16,
            "head_width": 8,
            "past": 1,
            "ahead": 2,
        },
        "rounds": [LOOP],
        "batch_size": 2,
        "crop_frames": 20,
    },
    "speech": {
        "lora": {"rank": 2, "alpha": 2},
        "rounds": [{"loop": LOOP}],
        "batch_positions": 512,
        "num_pronunciations": 4,
        "num_word_lists": 2,
    },
    "router": {
        "router": {"hidden": 4},
        "loop": LOOP,
        "questions": {"reading": 8, "arithmetic": 8, "words": 8},
        "batch_positions": 256,
        "num_sentences": 8,
    },
}
OPTIONS = SpeakOptions(max_unit_frames=8)
PLAIN = {"layout": "plain", "frames_per_step": 2, "num_runs": 4}


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_picture")]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per speaker, NAME.txt beside NAME.wav."""
    folder = tmp_path_factory.mktemp("recordings")
    for speaker in ("ann", "ben"):
        (folder / speaker).mkdir()
        for number, text in enumerate(tiny.SENTENCES):
            made = tiny.made_up_utterance(f"{speaker}-{number}", speaker, "train", text, False, seed=number)
            write_audio(folder / speaker / f"{number}.wav", np.clip(made.samples, -1, 1), tiny.RATE)
            (folder / speaker / f"{number}.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen2Config(**shape, vocab_size=258, num_key_value_heads=2, tie_word_embeddings=True)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tiny.byte_tokenizer().save_pretrained(folder)
    return folder


def written(path: Path, work: Path, recordings: Path, qwen: Path, **changes: Any) -> Path:
    values: dict[str, Any] = {**TINY, "backbone": str(qwen), "corpora": [str(recordings)], "work": str(work)}
    values |= {"out": str(work / "pack"), "name": "made up"}
    for key, value in changes.items():
        both = isinstance(values.get(key), dict) and isinstance(value, dict)
        values[key] = {**values[key], **value} if both else value
    path.write_text(yaml.safe_dump(values))
    return path


def parts(kind: str, folder: Path) -> dict[str, Any]:
    """What a user's configuration says of tokenizers and layout."""
    if kind == "the pocket's tokenizers":
        return {}
    if kind == "own codec":
        small = {"width": 8, "dilations": [1], "latent_width": 4, "num_codebooks": 2, "codebook_size": 8}
        vocoder = {"num_codebooks": 2, "codebook_size": 8, "code_width": 4, "width": 8, "slow_dilations": [1]}
        return {
            "codec": {
                "model": "train",
                "codec": {"corpora": [], "model": small, "loop": LOOP, "batch_size": 2, "crop_frames": 12},
                "vocoder": {
                    "corpora": [],
                    "model": {**vocoder, "fast_dilations": [1]},
                    "adversary": {"window_lengths": [384], "channels": 2},
                    "spectral": LOOP,
                    "adversarial": [LOOP],
                    "batch_size": 2,
                    "adversarial_batch_size": 2,
                    "crop_frames": 8,
                    "lead_frames": 2,
                    "adversary_lead_steps": 1,
                },
            }
        }
    family, codec = kind.split(" and ")
    encoder = encoders.write_encoder(folder / family, family)
    model = codecs.write_hf_model(codec, folder / codec)
    trained = {"whisper": True, "wavlm": False}  # of those that hear
    return ({"listen": listen(folder, trained[family])} if family in trained else {}) | {
        "semantic": {"encoder": str(encoder), "layer": encoders.LAYER, "vocab_size": 12, "steps": 2},
        "codec": {"model": str(model), "num_codebooks": 2},
        "speech": PLAIN,
    }


def listen(folder: Path, trained: bool) -> dict[str, Any]:
    whisper = str(write_whisper(folder / "recogniser", seconds=4))
    if not trained:
        return {"encode": {"encoder": {"model": whisper}}}
    connector = {"width": 8, "layers": 1, "heads": 2, "batch_frames": 400, "loop": LOOP}
    train = {"blend": {"recognition": {}}, "batch_positions": 200, "loop": LOOP}
    return {
        "soft": False,
        "encode": {"encoder": {"model": whisper}, "aligner": whisper},
        "connector": connector,
        "imitate": None,
        "train": train,
    }


KINDS = ["the pocket's tokenizers", "own codec", "hubert and mimi", "whisper and dac", "wavlm and encodec"]


@pytest.mark.parametrize("kind", KINDS)
def test_recordings_and_a_backbone_become_a_pack_that_speaks(
    kind: str, tmp_path: Path, recordings: Path, qwen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path / "graft.yaml", tmp_path / "work", recordings, qwen, **parts(kind, tmp_path))
    main([str(config)])
    shown = capsys.readouterr().out
    assert shown.index("Plan for made up") < shown.index("prepare") < shown.index("--pack")
    speaker = Speaker.load(tmp_path / "work" / "pack")
    assert speaker.voices == ["ann", "ben"]
    sound = 0.3 * tiny.made_up_utterance("x", "eve", "train", tiny.SENTENCES[0], False, seed=9).samples
    write_audio(tmp_path / "eve.wav", np.resize(sound, 2 * tiny.RATE).clip(-1, 1), tiny.RATE)
    assert speaker.voice_like(tmp_path / "eve.wav").name in speaker.voices
    options = dataclasses.replace(speaker.pack.header.options, max_letter_frames=2.0, guard=GuardPolicy("watch"))
    speech = speaker.say("We see.", "ben", options=options)
    assert speech.duration_sec > 0 and np.isfinite(speech.samples).all()
    ids = torch.randint(2, 258, (1, 12))
    untouched = AutoModelForCausalLM.from_pretrained(qwen)
    with torch.inference_mode():
        assert torch.equal(speaker.pack.lm.text_logits(ids), untouched(ids).logits)
    assert (speaker.pack.lm.hearing is not None) == (kind.partition(" ")[0] in ("whisper", "wavlm"))
    if speaker.pack.lm.hearing is not None:
        heard = Listener.load(tmp_path / "work" / "pack", "pure", writer=speaker.writer)
        assert heard.writer.lm.hearing.connector.READS  # type: ignore[union-attr]
        assert list((tmp_path / "work" / "pack" / "listening").rglob("listening.json"))
    card = (tmp_path / "work" / "pack" / "CARD.md").read_text()
    assert "text-to-speech" in card and "made up" in card
    # The same command once more does nothing but gather the parts again.
    trained = {p: p.stat().st_mtime_ns for p in (tmp_path / "work").rglob("*.safetensors") if "pack" not in p.parts}
    main([str(config)])
    assert {p: p.stat().st_mtime_ns for p in trained} == trained


def test_a_backbone_learns_to_speak_from_the_pocket_pack(
    tmp_path: Path, recordings: Path, qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As assistant/graft: half of the layers, what is known is not spelt, and all that makes sound is the pocket's."""
    monkeypatch.setattr(says, "SHARD_SEC", 2)
    speech = {"teacher": "pocket", "num_layers": 1, "frames_per_step": 2, "spells": "unknown"}
    changes = {"speech": {**TINY["speech"], **speech}, "say": {"hours": 2 / 3600, "at_once": 3, "least_words": 1}}
    router = {**TINY["router"], "next_token": False}
    changes |= {"monitor": None, "acoustic": None, "copy_parts": False, "copy_backbone": False, "router": router}
    changes |= {"default_voice": "kathleen"}
    path = written(tmp_path / "graft.yaml", tmp_path / "work", recordings, qwen, **changes)
    main([str(path)])
    work, pack = tmp_path / "work", tmp_path / "work" / "pack"
    assert {p.name for p in pack.iterdir()} == {"expert", "router", "pack.json", "CARD.md"}
    speaker = Speaker.load(pack, backbone=qwen)
    assert speaker.voices == Speaker.load().voices and speaker.default_voice == "kathleen"
    lm = speaker.pack.lm
    assert lm.lexicon is not None and "house" in lm.lexicon
    assert len(lm.inner.layers) == 1 and all(".layers.0." in name for name, _ in lm.mole.layers())
    stream = speaker.say("My house sees zorblatts.", options=dataclasses.replace(OPTIONS, guard=GuardPolicy("watch")))
    assert stream.duration_sec > 0 and np.isfinite(stream.samples).all()
    ids = torch.randint(2, 258, (1, 12))
    with torch.inference_mode():
        assert torch.equal(lm.text_logits(ids), AutoModelForCausalLM.from_pretrained(qwen)(ids).logits)
    # A pack that is published has all its parts.
    speaker.pack.save_pretrained(tmp_path / "whole")
    assert read_header(tmp_path / "whole").shares == "" and (tmp_path / "whole" / "acoustic").is_dir()
    header = json.loads((pack / "pack.json").read_text())
    (pack / "pack.json").write_text(json.dumps({**header, "shares": "../whole"}))
    with pytest.raises(VoicegraftError, match=r"takes parts from the pack '../whole'.* has .*pocket"):
        Speaker.load(pack, backbone=qwen)
    assert (work / "said" / "said-000" / "manifest.jsonl").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"acoustic": None, "codec": {"model": "train"}}, "acoustic: null takes what the teacher has"),
        ({"copy_parts": False}, "it goes with acoustic: null and monitor: null"),
        ({"acoustic": None}, "acoustic: null and speech.teacher go together"),
        ({"speech": {"teacher": "pocket"}}, "acoustic: null and speech.teacher go together"),
        ({"monitor": None}, "it goes with acoustic: null"),
        ({"say": {}}, "say makes speech for a teacher to explain"),
        (
            {"acoustic": None, "speech": {"layout": "plain", "teacher": "pocket"}},
            "teacher and spells go with layout: guided",
        ),
        ({"router": {"next_token": False, "router": {"granularity": "token"}}}, "goes with granularity: segment"),
    ],
)
def test_a_teacher_that_cannot_give_what_is_asked_for_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path, recordings: Path, qwen: Path
) -> None:
    path = written(tmp_path / "graft.yaml", tmp_path / "work", recordings, qwen, **changes)
    with pytest.raises(VoicegraftError, match=message):
        load_config(GraftConfig, path)


def test_the_plan_alone_does_nothing(
    tmp_path: Path, recordings: Path, qwen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path / "graft.yaml", tmp_path / "work", recordings, qwen)
    assert cli.main(["graft", str(config), "--plan"]) == 0
    shown = capsys.readouterr().out.splitlines()
    stages = ["prepare", "align", "semantic", "codec", "tokens", "monitor", "acoustic", "expert"]
    assert [line.split()[0] for line in shown[2:-1]] == [*stages, "router", "pack"]
    assert all(line.endswith("to do") for line in shown[2:-1])
    assert shown[-1].startswith("to do") and shown[-1].endswith("MB free")
    assert [path.name for path in tmp_path.iterdir()] == ["graft.yaml"]


def test_an_interrupted_road_is_taken_up_where_it_was_left(
    tmp_path: Path, recordings: Path, qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(GraftConfig, written(tmp_path / "graft.yaml", tmp_path / "work", recordings, qwen))
    work = tmp_path / "work"
    counts: list[int] = [0]
    kept: dict[Path, int] = {}

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    for stage in ("align", "train_acoustic", "train_speech"):
        with monkeypatch.context() as patch:
            patch.setattr(road, stage, interrupt)
            with pytest.raises(KeyboardInterrupt):
                graft(config)
        before = json.loads((work / "cost.json").read_text())
        counts.append(sum(entry["done"] for entry in before.values()))
        assert counts[-2] < counts[-1] == len(before) - 1
        assert {p: p.stat().st_mtime_ns for p in kept} == kept
        files = [*(work / "speech").rglob("*.*"), *work.rglob("*.safetensors")]
        kept = {path: path.stat().st_mtime_ns for path in files}
    graft(config)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert all(entry["done"] for entry in json.loads((work / "cost.json").read_text()).values())
    assert Speaker.load(work / "pack").voices == ["ann", "ben"]


def test_ctrl_c_while_training_ends_as_everywhere(
    tmp_path: Path, recordings: Path, qwen: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The step is finished and saved first."""
    from voicegraft.train import loop

    config, step = written(tmp_path / "graft.yaml", tmp_path / "work", recordings, qwen), loop._gradients

    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(loop, "_gradients", interrupted)
    assert cli.main(["graft", str(config)]) == 130
    assert capsys.readouterr().err.endswith("voicegraft: interrupted\n")
    costs = json.loads((tmp_path / "work" / "cost.json").read_text())
    assert [name for name, entry in costs.items() if not entry["done"]] == ["monitor"]


def test_a_stage_that_stops_early_is_not_done(
    tmp_path: Path, recordings: Path, qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(GraftConfig, written(tmp_path / "graft.yaml", tmp_path / "work", recordings, qwen))
    monkeypatch.setattr(road, "prepare", lambda _: None)
    with pytest.raises(
        VoicegraftError, match="stage prepare stopped before its end; the same command goes on from there"
    ):
        graft(config)


@pytest.fixture
def begun(tmp_path: Path, recordings: Path, qwen: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of a graft that has prepared its recordings and stopped there."""
    path = written(tmp_path / "graft.yaml", tmp_path / "work", recordings, qwen)
    monkeypatch.setattr(road, "align", lambda _: None)
    with pytest.raises(VoicegraftError, match="stage align stopped"):
        graft(load_config(GraftConfig, path))
    return path


def test_a_work_folder_that_was_begun_otherwise_is_refused(
    begun: Path,
) -> None:
    free = ["speech.lora.rank=3", "workers=2", "speech.work=x"]  # not begun, of no consequence, or the graft's own
    graft(load_config(GraftConfig, begun, [*free, "plan=true"]))
    with pytest.raises(VoicegraftError, match="begun with another corpus and has done prepare with it"):
        graft(load_config(GraftConfig, begun, ["corpus.val_share=0.5"]))


def test_a_road_of_before_there_were_front_ends_goes_on_in_english(
    tmp_path: Path, recordings: Path, qwen: Path
) -> None:
    work = tmp_path / "work"
    config = load_config(GraftConfig, written(tmp_path / "graft.yaml", work, recordings, qwen), ["plan=true"])
    remember(work, road._stages(config, work), config, road._settings)
    before = json.loads((work / "graft.json").read_text())
    assert before.pop("frontend") == "english"
    (work / "graft.json").write_text(json.dumps(before))
    (work / "cost.json").write_text(json.dumps({"expert": {"minutes": 1.0, "done": True}}))
    graft(config)
    other = dataclasses.replace(config, frontend="verbatim")
    with pytest.raises(VoicegraftError, match="begun with another frontend and has done expert with it"):
        remember(work, road._stages(other, work), other, road._settings)


def test_a_configuration_that_was_noted_with_fewer_keys_still_counts(begun: Path) -> None:
    noted = begun.parent / "work" / "graft.json"
    old = json.loads(noted.read_text())
    kept = {key: old[key] for key in ("backbone", "corpora", "corpus", "semantic", "codec", "speech")}
    kept["align"] = {"work": "runs/mine", "num_words": 4000}
    noted.write_text(json.dumps(kept))
    with pytest.raises(VoicegraftError, match="stage align stopped"):
        graft(load_config(GraftConfig, begun))
    noted.write_text(json.dumps({**kept, "corpus": {**kept["corpus"], "shard_size": 3}}))
    with pytest.raises(VoicegraftError, match="begun with another corpus"):
        graft(load_config(GraftConfig, begun))


def test_a_teacher_lends_its_tokenizers(tmp_path: Path, recordings: Path, qwen: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(DEFAULT_PACK, teacher)
    (teacher / "semantic" / "mark").write_text("mine")
    path = written(tmp_path / "graft.yaml", tmp_path / "work", recordings, qwen, teacher=str(teacher))
    config = load_config(GraftConfig, path)
    stages = {stage.name: stage for stage in road._stages(config, tmp_path / "work")}
    for name in ("semantic", "codec"):
        assert "teacher" in stages[name].depends
        stages[name].run()
    assert (tmp_path / "work" / "semantic" / "mark").read_text() == "mine"
    assert (tmp_path / "work" / "codec" / "config.json").is_file()


def test_every_stage_says_what_it_depends_on_with_keys_that_there_are(
    tmp_path: Path, recordings: Path, qwen: Path
) -> None:
    for kind in ({}, parts("own codec", tmp_path)):
        path = written(tmp_path / "graft.yaml", tmp_path / "work", recordings, qwen, **kind)
        stages = road._stages(load_config(GraftConfig, path), tmp_path / "work")
        names = {field.name for field in dataclasses.fields(GraftConfig)}
        assert {key for stage in stages for key in stage.depends} <= names
        trained = [stage for stage in stages if stage.together]
        assert trained and all(stage.depends for stage in trained)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backbone=nowhere/at/all", "there is no such folder; check the path"),
        ("corpora=[nowhere]", "expected a corpus at nowhere, found nothing"),
        ("codec.model=nowhere/at/all", "there is no such folder"),
        ("semantic.encoder=nowhere/at/all", "there is no such folder"),
        ("semantic.encoder={qwen}", "expected a speech encoder of type .*hubert.* found qwen2; take one of these"),
        ("codec.model={qwen}", "expected a codec of type dac, encodec, mimi in .*, found qwen2"),
        ("speech.layout=guessed", "expected one of guided, plain"),
        ("speech.num_runs=4", "num_runs"),
        ("frontend=verbatim", "the guided layout spells words in English phones and needs frontend: english"),
        ("frontend=klingon", "expected the frontend to be one of english, verbatim, got 'klingon'"),
        ("seech.layout=plain", "did you mean 'speech'"),
        ("backbone={empty}", "expected the folder of a text LLM at .*empty, found no config.json there"),
        ("backbone={weightless}", "holds no safetensors weights of a text LLM: expected model.safetensors"),
        ("align.dictionary=nowhere", "cannot read nowhere: No such file"),
        ("align.text=nowhere", r"expected text at nowhere \(align.text\), found nothing"),
        ("teacher=nowhere/at/all", "there is no such folder"),
        ("teacher={qwen}", "found no pack.json"),
        ("listen.encode.encoder.model=nowhere/at/all", "there is no such folder"),
        (
            "listen={{soft: false, imitate: null}}",
            "listen.train learns from the LLM's answers, which listen.imitate: null leaves out",
        ),
    ],
)
def test_what_is_missing_is_said_before_anything_is_done(
    override: str, message: str, tmp_path: Path, recordings: Path, qwen: Path
) -> None:
    path = written(tmp_path / "graft.yaml", tmp_path / "work", recordings, qwen)
    (tmp_path / "empty").mkdir()
    shutil.copytree(qwen, tmp_path / "weightless", ignore=shutil.ignore_patterns("*.safetensors"))
    override = override.format(qwen=qwen, empty=tmp_path / "empty", weightless=tmp_path / "weightless")
    for plan in ("plan=true", "plan=false"):
        with pytest.raises(VoicegraftError, match=message):
            graft(load_config(GraftConfig, path, [override, plan]))
    assert not (tmp_path / "work").exists()


def test_missing_judges_show_before_anything_is_done(
    tmp_path: Path, recordings: Path, qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "graft.yaml", tmp_path / "work", recordings, qwen, evaluate={"limit": 2})
    monkeypatch.setattr(road, "find_spec", lambda name: None)
    with pytest.raises(VoicegraftError, match=r"pip install voicegraft\[evaluate\]"):
        graft(load_config(GraftConfig, path))
    assert not (tmp_path / "work").exists()


@pytest.mark.processes
def test_two_processes_walk_the_road_together(tmp_path: Path, recordings: Path, qwen: Path) -> None:
    loop = {**LOOP, "batches_per_step": 2}
    changes = {name: {"loop": loop} for name in ("monitor", "router")}
    changes |= {"acoustic": {"rounds": [loop]}, "speech": {"rounds": [{"loop": loop}]}}
    config = written(tmp_path / "graft.yaml", tmp_path / "work", recordings, qwen, **changes)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    place |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-m", "voicegraft.recipes.graft", str(config)]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    shown = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(shown)
    assert "Plan for made up" in shown[0] and "Plan for made up" not in shown[1]
    assert Speaker.load(tmp_path / "work" / "pack").voices == ["ann", "ben"]
    assert all(entry["done"] for entry in json.loads((tmp_path / "work" / "cost.json").read_text()).values())
