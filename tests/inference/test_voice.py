"""Voices made like a recording: what is heard, what is refused, and what the files say of themselves."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.inference.speaker import Speaker


def recording(path: Path, seconds: float, rate: int = 24_000, level: float = 0.2) -> Path:
    """Chords of a changing pitch."""
    time = np.arange(round(seconds * rate)) / rate
    tones = [np.sin(2 * np.pi * k * (150 + 20 * np.sin(5 * time)).cumsum() / rate) / k for k in (1, 2, 3)]
    soundfile.write(path, (level * sum(tones)).astype(np.float32), rate)
    return path


def test_a_voice_like_a_recording_speaks_its_own_way(speaker: Speaker, tmp_path: Path) -> None:
    voice = speaker.voice_like(recording(tmp_path / "anna.wav", 3.0))
    assert voice.name in speaker.voices and not voice.warnings
    assert voice.vector.shape == (tiny.VOICES.width,) and np.linalg.norm(voice.vector) == pytest.approx(1, abs=1e-5)
    like = speaker.say("We see the owl.", voice, seed=1).samples
    assert np.array_equal(speaker.say("We see the owl.", voice, seed=1).samples, like)
    assert not np.array_equal(speaker.say("We see the owl.", voice.name, seed=1).samples, like)


def test_loudness_changes_nothing(speaker: Speaker, tmp_path: Path) -> None:
    loud = speaker.voice_like(recording(tmp_path / "loud.wav", 3.0, level=0.3))
    quiet = speaker.voice_like(recording(tmp_path / "quiet.wav", 3.0, level=0.03))
    assert float(loud.vector @ quiet.vector) > 0.999


def test_files_say_what_they_were_made_like(speaker: Speaker, tmp_path: Path) -> None:
    voice = speaker.voice_like(recording(tmp_path / "anna.wav", 3.0))
    for name in ("said.wav", "said.flac", "said.mp3"):
        speaker.stream("We see.", voice).save(tmp_path / name)
        with soundfile.SoundFile(tmp_path / name) as file:
            assert file.comment == "synthetic speech (voicegraft), made like anna.wav"
    speaker.stream("We see.", "ann").save(tmp_path / "own.wav")
    with soundfile.SoundFile(tmp_path / "own.wav") as file:
        assert not file.comment


def test_what_one_should_know_of_a_recording(speaker: Speaker, tmp_path: Path) -> None:
    long = speaker.voice_like(recording(tmp_path / "long.wav", 40.0))
    assert long.warnings == ("of long.wav the first 30 s are heard",)
    (warning,) = speaker.voice_like(recording(tmp_path / "phone.wav", 3.0, rate=8_000)).warnings
    assert "phone.wav has 8000 Hz" in warning


@pytest.mark.parametrize(
    ("seconds", "level", "told"), [(0.2, 0.2, "holds 0.2 s of sound that"), (5.0, 0.0, "holds 0.0 s of sound that")]
)
def test_too_little_to_hear(speaker: Speaker, tmp_path: Path, seconds: float, level: float, told: str) -> None:
    with pytest.raises(VoicegraftError, match=told):
        speaker.voice_like(recording(tmp_path / "short.wav", seconds, level=level))


def test_noise_is_no_voice(speaker: Speaker, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).normal(0, 0.1, 72_000), 24_000)
    with pytest.raises(VoicegraftError, match="holds no voice"):
        speaker.voice_like(tmp_path / "noise.wav")


def test_no_recording_and_no_encoder(speaker: Speaker, pack_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match="found nothing"):
        speaker.voice_like(tmp_path / "none.wav")
    with pytest.raises(VoicegraftError, match="found a folder"):
        speaker.voice_like(tmp_path)
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(VoicegraftError, match="as audio"):
        speaker.voice_like(tmp_path / "text.wav")
    shutil.copytree(pack_folder, tmp_path / "pack")
    shutil.rmtree(tmp_path / "pack" / "voice")
    with pytest.raises(VoicegraftError, match="speaks in its own voices alone"):
        Speaker.load(tmp_path / "pack").voice_like(recording(tmp_path / "anna.wav", 3.0))


def test_an_encoder_of_another_training(pack_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(pack_folder, tmp_path / "pack")
    other = tiny.VoiceEncoder(tiny.VOICES)
    other.save(tmp_path / "pack" / "voice", {})
    with pytest.raises(VoicegraftError, match="not the one its acoustic LM was trained with"):
        Speaker.load(tmp_path / "pack").voice_like(recording(tmp_path / "anna.wav", 3.0))
