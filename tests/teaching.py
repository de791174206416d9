"""Made-up teachers: one of tones that worker processes open by name, and a Kokoro of a few bytes."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from voicegraft.teachers.base import Said, Unsayable
from voicegraft.teachers.kokoro import Mixture

RATE = 16_000  # Hz; another than the corpus has
PITCH = {"ann": 220.0, "ben": 110.0, "af_nova": 300.0}  # Hz


class MadeUpTeacher:
    """Each letter is 80 ms of a tone, between 0.3 s and 0.25 s of silence. It cannot say some words, or not well."""

    name = "made-up"
    licence = "none"
    sample_rate = RATE
    has_speed = True

    def __init__(self, more: tuple[str, ...] = ()) -> None:
        self.voices = (*PITCH, *more)

    def say(self, text: str, voice: str, speed: float, seed: int) -> Said:
        if "xylophone" in text:
            raise Unsayable("it is no word of mine")
        letters = [char for char in text.lower() if char.isalpha()]
        num_samples = round(0.08 * RATE / speed)
        pitches = [PITCH.get(voice, 150.0) + 7 * ord(letter) for letter in letters]
        tones = [np.sin(2 * np.pi * pitch * np.arange(num_samples) / RATE) for pitch in pitches]
        loud = 2.0 if "shouts" in text else 0.0 if "silence" in text else 0.3
        samples = np.concatenate([np.zeros(round(0.3 * RATE)), *(loud * tone for tone in tones), np.zeros(RATE // 4)])
        ends = [0.3 + num_samples / RATE * number for number in range(len(letters) + 1)]
        return Said(samples.astype(np.float32), (), (), ("^", *letters, "$"), (*ends, len(samples) / RATE))


class Mortal(MadeUpTeacher):
    """Kills the first process that says its third text while a file is there."""

    def __init__(self, marker: Path, more: tuple[str, ...]) -> None:
        super().__init__(more)
        self.marker, self.num_said = marker, 0

    def say(self, text: str, voice: str, speed: float, seed: int) -> Said:
        self.num_said += 1
        if self.num_said == 3 and self.marker.exists():
            self.marker.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().say(text, voice, speed, seed)


def made_up(name: str, folder: Path | None, mixtures: Mapping[str, Mixture]) -> MadeUpTeacher:
    """``folder`` is the file that `Mortal` looks for."""
    return Mortal(folder, tuple(mixtures)) if folder else MadeUpTeacher(tuple(mixtures))


VOCABULARY = {symbol: number for number, symbol in enumerate("$ .,abdhlnəɹɛoðiɪOwstɜˈˌ", start=0)}
VOICES = ("af_ann", "af_sue", "am_tom", "af_nova", "bf_kate", "bm_john", "zf_xiao")


def write_kokoro(folder: Path) -> None:
    """Files in Kokoro's formats. The model says one sample per token: its number times the speed, plus the mean style."""
    (folder / "voices").mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY))
    random = np.random.default_rng(0)
    for voice in VOICES:
        np.save(folder / "voices" / f"{voice}.npy", random.normal(0, 1, (510, 256)).astype(np.float32))
    (folder / "model.onnx").write_bytes(_model("/encoder/Clip_output_0"))


def _model(durations: str) -> bytes:
    """An ONNX graph (onnx.proto3), of which the durations are inside."""
    graph = b"".join(
        [
            _node("Cast", ["tokens"], durations, _field(5, _field(1, b"to") + _number(3, 1) + _number(20, 2))),
            _node("Mul", [durations, "speed"], "scaled"),
            _node("ReduceMean", ["style"], "mean"),
            _node("Add", ["scaled", "mean"], "audio"),
            _field(2, b"tiny"),
            *(_field(11, _value(name, kind)) for name, kind in (("tokens", 7), ("style", 1), ("speed", 1))),
            _field(12, _value("audio", 1)),
        ]
    )
    return _number(1, 8) + _field(7, graph) + _field(8, _number(2, 13))


def _node(kind: str, inputs: list[str], output: str, attributes: bytes = b"") -> bytes:
    names = b"".join(_field(1, name.encode()) for name in inputs) + _field(2, output.encode())
    return _field(1, names + _field(4, kind.encode()) + attributes)


def _value(name: str, kind: int) -> bytes:
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, kind)))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)
