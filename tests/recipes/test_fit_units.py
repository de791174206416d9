"""Units fitted over shards: what is learnt, that a killed run ends alike, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.encoders import LAYER, sounds, write_encoder
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.manifest import Utterance, write_manifest
from voicegraft.data.prepared import PreparedSpeech
from voicegraft.data.shards import write_ragged
from voicegraft.data.tokens import Tokens
from voicegraft.recipes import fit_units as recipe
from voicegraft.recipes.fit_units import FitUnitsConfig, fit_units
from voicegraft.recipes.tokenize import TokenizeConfig, tokenize
from voicegraft.tokenizers.centroids import fit_centroids, nearest
from voicegraft.tokenizers.encoder_units import EncoderUnits
from voicegraft.tokenizers.loading import open_semantic

RATES = {"ann": 16_000, "bob": 24_000, "eve": 8000}  # of the shards


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"), "wavlm")


def speech(work: Path) -> Path:
    for number, (name, rate) in enumerate(RATES.items()):
        samples = [sounds(rate * 2 + 100 * n, seed=10 * number + n)[0].numpy() for n in range(6)]
        splits = ["train"] * 5 + ["val"]
        rows = [Utterance(f"{name}-{n}", "", "text", name, splits[n], len(s) / rate) for n, s in enumerate(samples)]
        write_manifest(work / "speech" / name, rows)
        write_ragged(work / "speech" / name / "audio", [s * 32767 for s in samples], "int16", key=f"pcm-{rate}")
    return work


def config(work: Path, source: Path, **options: Any) -> FitUnitsConfig:
    given = FitUnitsConfig(
        str(source), LAYER, str(work), vocab_size=20, steps=9, batch_clips=4, clip_sec=1.0, reseed_every=3, save_every=2
    )
    return replace(given, **{"device": "cpu", **options})


@torch.inference_mode()
def test_units_are_about_as_good_as_those_of_all_frames_at_once(source: Path, tmp_path: Path) -> None:
    work = speech(tmp_path)
    fit_units(config(work, source, steps=30, clip_sec=9.0))
    units = open_semantic(work / "semantic")
    assert isinstance(units, EncoderUnits)
    assert (units.spec.vocab_size, units.config.layer, units.spec.sample_rate) == (20, LAYER, 16_000)
    prepared = PreparedSpeech(work, ["ann"])
    clips = [torch.from_numpy(prepared.samples(clip))[None] for clip in prepared.select("train")]
    frames = torch.cat([units.features(clip)[0] for clip in clips])
    assert torch.allclose(frames.std(0), torch.ones(16), atol=0.5)

    def inertia(centroids: torch.Tensor) -> float:
        return float((frames - centroids[nearest(frames, centroids)]).square().sum(-1).mean())

    # They are for all shards, the others for this one.
    assert inertia(fit_centroids(frames, 20)) < inertia(units.centroids) < 1.6 * inertia(fit_centroids(frames, 20))

    tokenize(TokenizeConfig(work=str(work), kinds=("semantic",), device="cpu"))
    tokens = Tokens(work, "semantic", units.spec.fingerprint)
    for clip in PreparedSpeech(work).clips:
        assert tokens(clip).shape == (len(prepared.samples(clip)) * 50 // prepared.rate(clip), 1)

    log = EventAccumulator(str(work / "semantic-training" / "log"))
    log.Reload()
    values = [event.value for event in log.Scalars("inertia")]
    assert len(values) == 30 and sum(values[-5:]) < sum(values[:5])
    assert log.Scalars("recently_used_units")[-1].value > 15


class Killed(BaseException):
    pass


@pytest.mark.parametrize("fatal", [1, 4, 9])
def test_a_killed_run_ends_with_the_same_units(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fatal: int
) -> None:
    fit_units(config(speech(tmp_path / "whole"), source))
    work = speech(tmp_path / "killed")
    saved = 0

    def save(*args: Any) -> None:
        nonlocal saved
        saved += 1
        if saved == fatal:
            raise Killed
        recipe_save(*args)

    recipe_save = recipe._save
    monkeypatch.setattr(recipe, "_save", save)
    if fatal < 7:
        with pytest.raises(Killed):
            fit_units(config(work, source))
    fit_units(config(work, source))
    fit_units(config(work, source))  # there is nothing left to do
    whole, other = (open_semantic(folder / "semantic") for folder in (tmp_path / "whole", work))
    assert whole.spec == other.spec


def test_a_checkpoint_of_other_settings_is_refused(source: Path, tmp_path: Path) -> None:
    work = speech(tmp_path)
    fit_units(config(work, source, steps=2))
    with pytest.raises(VoicegraftError, match="other settings"):
        fit_units(config(work, source, steps=3))
    with pytest.raises(VoicegraftError, match="other settings"):
        fit_units(config(work, source, steps=2, corpora=("ann",)))
    fit_units(config(work, source, steps=2, save_every=1))


def test_too_little_speech_is_told(source: Path, tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match="no prepared speech"):
        fit_units(config(tmp_path, source))
    work = speech(tmp_path)
    with pytest.raises(VoicegraftError, match=r"each of 600 clusters, got 2\d\d"):
        fit_units(config(work, source, vocab_size=600, corpora=("bob",)))
    held_back = [replace(clip.utterance, split="val") for clip in PreparedSpeech(work, ["eve"]).clips]
    write_manifest(work / "speech" / "eve", held_back)
    with pytest.raises(VoicegraftError, match="split train"):
        fit_units(config(work, source, corpora=("eve",)))


def test_the_command_line_needs_an_encoder_and_a_layer(source: Path, tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match="encoder"):
        recipe.main([])
    with pytest.raises(VoicegraftError, match="save_every"):
        recipe.main([f"encoder={source}", "layer=1", "save_every=0"])
    work = speech(tmp_path)
    arguments = [f"encoder={source}", "layer=0", f"work={work}", "vocab_size=8", "steps=1", "device=cpu"]
    recipe.main([*arguments, "corpora=[ann, bob]", "clip_sec=0.5"])
    assert open_semantic(work / "semantic").spec.vocab_size == 8
