"""All training recipes in a row on made-up speech, then the pack speaks. Nothing is learnt; all must fit."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pocket.voices import keep_voices
from tests import tiny
from voicegraft.acoustic.adversary import AdversaryConfig
from voicegraft.acoustic.vocoder import Vocoder
from voicegraft.acoustic.voice_encoder import VoiceEncoderConfig
from voicegraft.audio.io import write_audio
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.manifest import read_manifest
from voicegraft.data.shards import RaggedArray
from voicegraft.guard.guarded import GuardPolicy
from voicegraft.guard.recognizer import UnitRecognizer
from voicegraft.inference.pack import PackHeader, write_pack
from voicegraft.inference.speaker import Speaker
from voicegraft.recipes.speech_material import Round
from voicegraft.recipes.tokenize import TokenizeConfig, tokenize
from voicegraft.recipes.train_acoustic import TrainAcousticConfig, train_acoustic
from voicegraft.recipes.train_codec import TrainCodecConfig, train_codec
from voicegraft.recipes.train_monitor import TrainMonitorConfig, train_monitor
from voicegraft.recipes.train_semantic import TrainSemanticConfig, train_semantic
from voicegraft.recipes.train_speech import TrainSpeechConfig, train_speech
from voicegraft.recipes.train_vocoder import TrainVocoderConfig, train_vocoder
from voicegraft.tokenizers.codec import Codec
from voicegraft.tokenizers.semantic import SemanticTokenizer
from voicegraft.train.config import LoopConfig

LOOP = LoopConfig(steps=2, warmup_steps=1, precision="no", log_every=1, save_every=1, validate_every=2)
VOICES = ("ann", "ben")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("work")
    tiny.write_made_up_speech(work)
    tiny.write_backbone(work / "backbone")
    where = str(work)
    train_semantic(
        TrainSemanticConfig(
            where,
            model=tiny.SEMANTIC,
            rounds=(LOOP, LOOP),
            batch_size=4,
            crop_frames=40,
            noise_steps=2,
            device="cpu",
        )
    )
    train_codec(TrainCodecConfig(where, VOICES, tiny.CODEC, LOOP, batch_size=2, crop_frames=20, device="cpu"))
    tokenize(TokenizeConfig(where, device="cpu"))
    train_monitor(TrainMonitorConfig(where, dim=4, hidden=8, loop=LOOP, batch_size=16, device="cpu"))
    train_vocoder(
        TrainVocoderConfig(
            where,
            VOICES,
            tiny.VOCODER,
            AdversaryConfig(window_lengths=(384,), channels=2),
            spectral=LOOP,
            adversarial=(LOOP, LOOP),
            batch_size=2,
            adversarial_batch_size=2,
            crop_frames=16,
            lead_frames=4,
            adversary_lead_steps=1,
            device="cpu",
        )
    )
    train_acoustic(
        TrainAcousticConfig(
            where,
            VOICES,
            tiny.ACOUSTIC,
            VoiceEncoderConfig(mel=tiny.MEL, channels=12, width=tiny.ACOUSTIC.voice_width),
            rounds=(LOOP, LOOP),
            batch_size=2,
            crop_frames=30,
            device="cpu",
        )
    )
    train_speech(
        TrainSpeechConfig(
            where,
            lora=tiny.LORA,
            rounds=(Round(LOOP, 0.3, 0.4), Round(LOOP, 0.6, 0.3)),
            batch_positions=512,
            num_pronunciations=6,
            num_word_lists=4,
            device="cpu",
        )
    )
    return work


def test_tokens_are_keyed_by_the_tokenizers_that_are_on_disk(work: Path) -> None:
    semantic, codec = SemanticTokenizer.load(work / "semantic"), Codec.load(work / "codec")
    for shard in ("ann", "ben", "flite-000"):
        audio = RaggedArray(work / "speech" / shard / "audio")
        units = RaggedArray(work / "tokens" / "semantic" / shard, key=semantic.spec.fingerprint)
        assert (units.lengths == audio.lengths // tiny.FRAME).all()
        assert units.values.min() >= 0 and units.values.max() < 27
    for shard in VOICES:
        codes = RaggedArray(work / "tokens" / "codec" / shard, key=codec.spec.fingerprint)
        samples = RaggedArray(work / "speech" / shard / "audio")[0] / np.float32(32768)
        again = codec.encode(torch.from_numpy(samples)[None])[0].T
        assert torch.equal(torch.from_numpy(codes[0].astype(np.int64)), again)
    assert not (work / "tokens" / "codec" / "flite-000").exists()


def test_the_recordings_got_timed_units(work: Path) -> None:
    for number in (0, 1):
        for shard in VOICES:
            raw = read_manifest(work / "speech" / shard)
            for before, after in zip(raw, read_manifest(work / "alignments" / f"round{number}" / shard), strict=True):
                assert not before.units
                assert list(after.units) == tiny.LEXICON.units(before.text)
                assert after.unit_ends_sec[-1] == pytest.approx(before.duration_sec)


def test_the_pack_of_all_parts_speaks(work: Path, tmp_path: Path) -> None:
    header = PackHeader("trained", default_voice="ann", options=tiny.OPTIONS)
    write_pack(tmp_path / "pack", work, header, "card")
    speaker = Speaker.load(tmp_path / "pack")
    assert speaker.voices == ["ann", "ben"]
    assert Vocoder.load(work / "vocoder").config.codec == Codec.load(work / "codec").spec.fingerprint
    assert speaker.pack.monitor is not None
    assert [pace.voice for pace in speaker.pack.monitor.config.pace] == list(VOICES)
    watched = replace(tiny.OPTIONS, guard=GuardPolicy("watch"))  # nothing was learnt: it would not let much pass
    speech = speaker.say("Go.", "ben", options=watched)
    assert speech.duration_sec > 0 and np.isfinite(speech.samples).all()
    assert np.abs(speech.samples).max() <= 1.0
    recording = RaggedArray(work / "speech" / "ann" / "audio")[0] / np.float32(32768)
    assert len(speaker.resynthesize_codec(recording)) == len(recording)
    assert len(speaker.resynthesize_semantic(recording, "ann")) == len(recording)
    write_audio(tmp_path / "ann.wav", np.resize(recording, 2 * tiny.RATE), tiny.RATE)
    assert speaker.voice_like(tmp_path / "ann.wav").name in VOICES


def test_of_the_voices_those_that_ship_get_their_names_and_the_work_folder_stays(work: Path, tmp_path: Path) -> None:
    parts = ("semantic", "codec", "vocoder", "monitor", "acoustic", "voice", "expert", "backbone")
    for part in parts:
        shutil.copytree(work / part, tmp_path / "shipped" / part)
    keep_voices(tmp_path / "shipped", {"ben": "Benjamin"})
    header = PackHeader("trained", options=tiny.OPTIONS)
    speakers = []
    for name, folder in (("one", tmp_path / "shipped"), ("all", work)):
        write_pack(tmp_path / name, folder, header, "card")
        speakers.append(Speaker.load(tmp_path / name))
    one, everyone = speakers
    assert one.voices == ["Benjamin"] and everyone.voices == ["ann", "ben"]
    said = one.say("Go.", "Benjamin"), everyone.say("Go.", "ben")
    assert np.allclose(said[0].samples, said[1].samples, atol=1e-3)


def test_the_monitor_knows_how_long_the_voices_hold_their_units(work: Path) -> None:
    config = UnitRecognizer.load(work / "monitor").config
    assert config.semantic == SemanticTokenizer.load(work / "semantic").spec.fingerprint
    for pace in config.pace:
        known = dict(zip(config.units, zip(pace.mean, pace.longest, strict=True), strict=True))
        lengths: dict[str, list[float]] = {}
        for utterance in read_manifest(work / "alignments" / "round1" / pace.voice):
            starts = [0.0, *utterance.unit_ends_sec]
            for unit, start, end in zip(utterance.units, starts, utterance.unit_ends_sec, strict=False):
                lengths.setdefault(unit, []).append(50 * (end - start))
        for unit, frames in lengths.items():
            if len(frames) >= 4:
                assert known[unit][0] == pytest.approx(np.mean(frames), abs=1.5)
            assert known[unit][1] >= 30


def test_a_monitor_of_other_tokens_does_not_fit(work: Path, tmp_path: Path) -> None:
    write_pack(tmp_path / "pack", work, PackHeader("trained", default_voice="ann", options=tiny.OPTIONS), "card")
    monitor = UnitRecognizer.load(work / "monitor")
    monitor.config = replace(monitor.config, semantic="others")
    monitor.save(tmp_path / "pack" / "monitor", {})
    with pytest.raises(VoicegraftError, match="the monitor reads others; take both from one training run"):
        Speaker.load(tmp_path / "pack")


def test_a_finished_work_folder_stays_as_it_is(work: Path) -> None:
    before = {p: p.read_bytes() for p in (work / "codec").iterdir()}
    train_codec(TrainCodecConfig(str(work), VOICES, tiny.CODEC, LOOP, batch_size=2, crop_frames=20, device="cpu"))
    assert {p: p.read_bytes() for p in (work / "codec").iterdir()} == before
