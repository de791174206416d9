"""A Whisper for CTranslate2 is the encoder that CTranslate2 runs, and a file that is no such thing is refused."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.encoders import sounds
from tests.whispers import NUM_LAYERS, write_ctranslate2, write_whisper
from voicegraft.core.errors import VoicegraftError
from voicegraft.encoders.ctranslate2 import read_whisper
from voicegraft.encoders.speech_encoder import SpeechEncoder

ctranslate2 = pytest.importorskip("ctranslate2")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("whisper") / "hf")


@pytest.fixture(scope="module")
def folder(source: Path) -> Path:
    return write_ctranslate2(source.with_name("ct2"), source)


@torch.inference_mode()
def ours_and_theirs(folder: Path, num_layers: int) -> tuple[np.ndarray, np.ndarray]:
    """One window through our encoder, up to the final norm, and through CTranslate2's."""
    encoder = SpeechEncoder.from_pretrained(folder, num_layers)
    span = encoder.reader.span(encoder.reader.window)
    samples = sounds(span)
    mels = encoder.reader.inputs(samples, span).numpy()
    model = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32", intra_threads=1)
    theirs = np.array(model.encode(ctranslate2.StorageView.from_array(mels)))
    return encoder.model.layer_norm(encoder(samples)).numpy(), theirs


@pytest.mark.parametrize(("quantization", "tolerance"), [(None, 1e-4), ("float16", 1e-4), ("int8", 0.03)])
def test_the_encoder_is_ctranslate2s_own(source: Path, tmp_path: Path, quantization: str, tolerance: float) -> None:
    ours, theirs = ours_and_theirs(write_ctranslate2(tmp_path / "ct2", source, quantization), NUM_LAYERS)
    assert ours.shape == theirs.shape == (1, 50, 64)
    assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()


@pytest.mark.skipif(
    "VOICEGRAFT_TEST_CT2" not in os.environ, reason="VOICEGRAFT_TEST_CT2: a real folder, such as base's"
)
def test_a_real_encoder_is_ctranslate2s_own() -> None:
    ours, theirs = ours_and_theirs(Path(os.environ["VOICEGRAFT_TEST_CT2"]), 6)
    assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()


@torch.inference_mode()
def test_a_lower_layer_is_that_of_transformers_form(source: Path, folder: Path) -> None:
    one, other = (SpeechEncoder.from_pretrained(where, 1) for where in (source, folder))
    assert torch.equal(one(sounds(40_000)), other(sounds(40_000)))
    with pytest.raises(VoicegraftError, match=f"from 0 to {NUM_LAYERS}, got 9"):
        SpeechEncoder.from_pretrained(folder, 9)


def test_what_is_saved_of_it_is_an_encoder_of_transformers(folder: Path, tmp_path: Path) -> None:
    encoder = SpeechEncoder.from_pretrained(folder, 1)
    encoder.save(tmp_path)
    assert torch.equal(SpeechEncoder.load(tmp_path)(sounds(16_000)), encoder(sounds(16_000)))


def damaged(folder: Path, out: Path, change: object) -> Path:
    out.mkdir()
    (out / "model.bin").write_bytes(change((folder / "model.bin").read_bytes()))  # type: ignore[operator]
    return out


HEADER = struct.pack("<I", 6) + struct.pack("<H", 12) + b"WhisperSpec\0" + struct.pack("<II", 3, 1)
ONE = struct.pack("<H", 2) + b"x\0" + struct.pack("<B", 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[: len(b) // 2], "ends before its variables do"),
        (lambda b: b[:3], "ends before"),
        (lambda b: struct.pack("<I", 7) + b[4:], "its format is 7, expected 4 to 6"),
        (lambda b: b.replace(b"WhisperSpec", b"WhisperSpac"), "it is a WhisperSpac"),
        (lambda b: HEADER + ONE + struct.pack("<IIBI", 3, 2, 0, 4_000_000_000), "ends before"),
        (lambda b: HEADER + ONE + struct.pack("<IIBI", 3, 2**32 - 1, 0, 8) + bytes(8), "says another number"),
        (lambda b: HEADER + ONE + struct.pack("<IIBI", 1, 1, 9, 4) + bytes(4), "a type that is not known"),
        (lambda b: HEADER + ONE + struct.pack("<IIBI", 1, 1, 0, 3) + bytes(3), "buffer size must be a multiple"),
        (lambda b: HEADER[:-4] + struct.pack("<II", 0, 0), "cannot load a speech encoder"),
    ],
)
def test_files_that_are_damaged_or_something_else_are_refused(
    folder: Path, tmp_path: Path, change: object, message: str
) -> None:
    with pytest.raises(VoicegraftError, match=message):
        SpeechEncoder.from_pretrained(damaged(folder, tmp_path / "x", change), 1)


def test_every_cut_and_every_flipped_byte_is_refused_or_read(folder: Path, tmp_path: Path) -> None:
    """Nothing but a VoicegraftError comes of it."""
    whole = (folder / "model.bin").read_bytes()
    draw = np.random.default_rng(0)
    file = damaged(folder, tmp_path / "x", lambda b: b)
    for _ in range(200):
        where = int(draw.integers(400))
        (file / "model.bin").write_bytes(whole[:where] + bytes([int(draw.integers(256))]) + whole[where + 1 :])
        try:
            read_whisper(file)
        except VoicegraftError as error:
            assert "get it anew" in str(error)
