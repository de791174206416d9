import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from voicegraft.audio.io import AudioWriter, read_audio, write_audio
from voicegraft.core.errors import VoicegraftError


def tone(rate: int, sec: float = 0.5, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    """A tone that rises and falls, so that its ends are silent. [T]"""
    time = np.arange(round(sec * rate)) / rate
    return (level * np.sin(2 * np.pi * hertz * time) * np.sin(np.pi * time / sec) ** 2).astype(np.float32)


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [(".wav", 2**-15), (".flac", 2**-15), (".opus", 0.1), (".WAV", 2**-15)]
)
def test_what_is_written_is_read(tmp_path: Path, suffix: str, tolerance: float) -> None:
    path, samples = tmp_path / f"a{suffix}", tone(24_000)
    write_audio(path, samples, 24_000)
    wave = read_audio(path, 24_000)
    assert wave.sample_rate == 24_000 and wave.samples.shape == samples.shape
    assert np.abs(wave.samples - samples).max() <= tolerance
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".opus"])
@pytest.mark.parametrize("chunk_len", [1, 777, 5_000])
def test_chunks_make_the_same_file_as_the_whole(tmp_path: Path, suffix: str, chunk_len: int) -> None:
    samples = tone(16_000, sec=0.3)
    write_audio(tmp_path / f"whole{suffix}", samples, 16_000)
    with AudioWriter(tmp_path / f"chunks{suffix}", 16_000) as writer:
        for start in range(0, len(samples), chunk_len):
            writer.write(samples[start : start + chunk_len])
    whole, chunks = (read_audio(tmp_path / f"{name}{suffix}", 16_000).samples for name in ("whole", "chunks"))
    assert np.array_equal(whole, chunks)


@pytest.mark.parametrize("target_rate", [16_000, 24_000])
def test_stereo_at_another_rate_becomes_mono_at_ours(tmp_path: Path, target_rate: int) -> None:
    left, right = tone(44_100, level=0.8), tone(44_100, level=0.2)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 44_100)
    wave = read_audio(tmp_path / "a.wav", target_rate)
    expected = tone(target_rate, level=0.5)
    assert abs(len(wave.samples) - len(expected)) <= 1
    common = min(len(wave.samples), len(expected))
    assert np.abs(wave.samples[:common] - expected[:common]).max() < 0.01


def test_reading_and_writing_stay_in_range(tmp_path: Path) -> None:
    loud = np.array([0.0, 3.0, -3.0, 1.0] * 50, dtype=np.float32)
    write_audio(tmp_path / "clipped.wav", loud, 16_000)
    assert np.abs(soundfile.read(tmp_path / "clipped.wav")[0][:4] - [0, 1, -1, 1]).max() < 1e-3
    soundfile.write(tmp_path / "float.wav", loud, 16_000, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "float.wav", 24_000).samples).max() <= 1.0


def test_what_is_no_audio_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("these are words")
    (tmp_path / "zero.wav").write_bytes(b"")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 16_000, subtype="FLOAT")
    messages = {
        "missing.wav": "found nothing",
        ".": "found a folder",
        "text.wav": "cannot read",
        "zero.wav": "cannot read",
        "empty.wav": "no audio",
        "nan.wav": "not numbers",
    }
    for name, message in messages.items():
        with pytest.raises(VoicegraftError, match=message):
            read_audio(tmp_path / name, 16_000)


@pytest.mark.parametrize("name", ["a.aac", "a", "a.wav.gz"])
def test_an_unknown_suffix_lists_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(VoicegraftError, match=r"\.wav, \.flac, \.opus"):
        write_audio(tmp_path / name, tone(16_000), 16_000)


def test_places_and_values_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    for path, message in [
        (tmp_path / "none" / "a.wav", "No such file"),
        (tmp_path / "folder.wav", "is a folder"),
    ]:
        with pytest.raises(VoicegraftError, match=message):
            write_audio(path, tone(16_000), 16_000)
    with pytest.raises(VoicegraftError, match=r"\.opus knows"):
        write_audio(tmp_path / "a.opus", tone(22_050), 22_050)
    with pytest.raises(VoicegraftError, match="not numbers"):
        write_audio(tmp_path / "a.wav", np.full(10, np.inf, dtype=np.float32), 16_000)
    with pytest.raises(VoicegraftError, match="no audio"):
        write_audio(tmp_path / "a.wav", tone(16_000)[:0], 16_000)
    assert os.listdir(tmp_path) == ["folder.wav"]


def test_an_interrupted_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, tone(16_000), 16_000)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="interrupted"), AudioWriter(path, 16_000) as writer:
        writer.write(tone(16_000))
        raise RuntimeError("interrupted")
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".opus"])
def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 48_000).astype(np.float32)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, limits[1]))
    try:
        with pytest.raises(VoicegraftError, match="disk full"):
            write_audio(tmp_path / f"a{suffix}", noise, 24_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []
