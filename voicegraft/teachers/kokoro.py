"""Kokoro-82M (hexgrad, Apache-2.0) through ONNX Runtime: 28 English voices, and random mixtures of them, without end.

The model reads phones, a style vector and a speed. A voice is a table of style vectors, one row per number of phones. A
weighted mean of the tables of several voices is one more voice: a speaker that nobody else has, the same in all that it says.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from voicegraft.core.errors import VoicegraftError
from voicegraft.teachers.base import Said, Unsayable

Mixture = Mapping[str, float]  # voice -> its weight

FEWEST, MOST = 6, 399  # phones: of fewer the voice is unsteady, through more it rushes
_DURATIONS = "/encoder/Clip_output_0"  # inside of the graph: frames per phone, [1, N]
_LANGUAGES = {"a": "en-us", "b": "en-gb"}  # first letter of a voice -> espeak's name
# What espeak writes otherwise than the phones that the voices have learnt; one after the other.
_SYLLABIC = {f"{phone}\u0329": f"ᵊ{phone}" for phone in "lmnɹ"}
_PHONES = {
    "a": {
        **_SYLLABIC,
        "ɜːɹ": "ɜɹ",
        "ɜː": "ɜɹ",
        "ɪə": "iə",
        "ː": "",
        "ɚ": "əɹ",
        "ɾ": "T",
        "ɐ": "ə",
        "ʔ": "t",
        "r": "ɹ",
        "x": "k",
        "ç": "k",
        "ɬ": "l",
    },
    "b": {**_SYLLABIC, "ɐ": "ə", "r": "ɹ", "x": "k"},
}
_HOW_TO_GET = "run: voicegraft parts get kokoro, or name its folder (part=FOLDER)"


class KokoroTeacher:
    """Voices are files of the folder, ``af_heart`` and so on (American or British, female or male), and the mixtures."""

    name = "kokoro"
    licence = "Apache-2.0 (Kokoro-82M, hexgrad); what it says may be trained on and given away"
    sample_rate = 24_000
    has_speed = True

    def __init__(self, folder: Path, mixtures: Mapping[str, Mixture] | None = None) -> None:
        """
        Args:
            folder: model.onnx, vocab.json and voices/NAME.npy.
            mixtures: more voices, by name.

        Raises:
            VoicegraftError: Kokoro is not there, or a mixture is not of its voices.
        """
        names = sorted(path.stem for path in (folder / "voices").glob("*.npy"))
        self._folder, self._own = folder, tuple(name for name in names if name[0] in _LANGUAGES)
        missing = [name for name in ("model.onnx", "vocab.json") if not (folder / name).is_file()]
        if missing or not self._own:
            raise VoicegraftError(
                f"expected Kokoro in {folder}, which lacks {' and '.join(missing) or 'English voices'}; {_HOW_TO_GET}"
            )
        self._mixtures = dict(mixtures or {})
        for name, mixture in self._mixtures.items():
            if not mixture or {*mixture} - {*self._own} or len({voice[0] for voice in mixture}) > 1:
                raise VoicegraftError(
                    f"the mixture {name} is of {', '.join(mixture) or 'nothing'}; expected voices of one accent out of "
                    f"{', '.join(self._own)}"
                )
        self.voices = (*self._own, *self._mixtures)

    def say(self, text: str, voice: str, speed: float, seed: int) -> Said:
        mixture = self._mixtures.get(voice, {voice: 1.0})
        phones = phonemes(text, next(iter(mixture))[0])
        if unknown := sorted({*phones} - self._vocabulary.keys()):
            raise Unsayable(f"Kokoro has no phone {' '.join(unknown)}")
        if not FEWEST <= len(phones) <= MOST:
            raise Unsayable(f"{len(phones)} phones, where Kokoro speaks well from {FEWEST} to {MOST}")
        style = sum(weight * self._styles(name)[len(phones) - 1] for name, weight in mixture.items())
        samples, durations = self._run([0, *(self._vocabulary[phone] for phone in phones), 0], style, speed)
        if len(durations) != len(phones) + 2:
            return Said(samples)
        ends = np.cumsum(durations) / durations.sum() * len(samples) / self.sample_rate
        return Said(samples, phones=("^", *phones, "$"), phone_ends_sec=tuple(np.round(ends, 3).tolist()))

    def _run(self, tokens: Sequence[int], style: Any, speed: float) -> tuple[np.ndarray, np.ndarray]:
        """Samples ``[T]`` and frames per token ``[N]``; none where the model does not tell."""
        feed = {
            "tokens": np.array([tokens], np.int64),
            "style": np.asarray(style, np.float32)[None],
            "speed": np.array([speed], np.float32),
        }
        samples, *told = self._model.run(None, feed)
        return samples.ravel().astype(np.float32), told[0].ravel().astype(np.float64) if told else np.zeros(0)

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        try:
            read = json.loads((self._folder / "vocab.json").read_text(encoding="utf-8"))
            return {str(phone): int(number) for phone, number in read.items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise VoicegraftError(f"{self._folder / 'vocab.json'} is damaged ({error}); {_HOW_TO_GET}") from error

    def _styles(self, voice: str) -> np.ndarray:
        return _read_styles(self._folder / "voices" / f"{voice}.npy")

    @cached_property
    def _model(self) -> Any:
        path = self._folder / "model.onnx"
        try:
            import onnxruntime
        except ImportError as error:
            raise _package_missing(error) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # processes share the cores
        options.log_severity_level = 3
        fault: Exception | None = None
        for more in (_as_output(_DURATIONS), b""):  # a graph of other names tells no durations
            try:
                data = path.read_bytes() + more
                return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # ONNX Runtime has errors of its own, without a common class
                fault = error
        raise VoicegraftError(f"cannot load {path}: {' '.join(str(fault).split())[:200]}; {_HOW_TO_GET}") from fault


def phonemes(text: str, accent: str) -> str:
    """A spoken text as the voices of an accent ("a", "b") read it, a character a phone; marks and spaces are phones too."""
    return as_kokoro(_espeak(accent)(text)[0], accent)


def as_kokoro(ipa: str, accent: str) -> str:
    """espeak's phones (as misaki writes them) -> Kokoro's."""
    for old, new in _PHONES[accent].items():
        ipa = ipa.replace(old, new)
    return ipa


def draw_mixtures(
    voices: Sequence[str], count: int, seed: int, parts: int = 3, concentration: float = 0.6
) -> dict[str, dict[str, float]]:
    """New speakers ``mix-0001`` ...: weights of some voices of one accent, drawn from a Dirichlet distribution.

    The first mixtures of a seed are the same however many are asked for.

    Args:
        parts: voices in a mixture, at most.
        concentration: of the distribution; the lower, the nearer to a single voice.
    """
    mixtures = {}
    for number in range(1, count + 1):
        draw = random.Random(f"{seed}/mixture/{number}")
        accent = draw.choice(voices)[0]
        chosen = draw.sample(alike := [v for v in voices if v[0] == accent], min(parts, len(alike)))
        drawn = [draw.gammavariate(concentration, 1.0) for _ in chosen]
        mixtures[f"mix-{number:04d}"] = {v: round(x / sum(drawn), 4) for v, x in zip(chosen, drawn, strict=True)}
    return mixtures


@cache
def _espeak(accent: str) -> Any:
    try:
        from misaki.espeak import EspeakG2P
    except ImportError as error:
        raise _package_missing(error) from error
    return EspeakG2P(language=_LANGUAGES[accent])


@cache
def _read_styles(path: Path) -> np.ndarray:
    """Style vectors ``[N, D]``."""
    try:
        table: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise VoicegraftError(f"cannot read {path}: {error}; {_HOW_TO_GET}") from error
    if table.ndim != 2 or len(table) < MOST or not np.isfinite(table).all():
        raise VoicegraftError(f"{path} is no table of style vectors but {table.shape}; {_HOW_TO_GET}")
    return table


def _package_missing(error: ImportError) -> VoicegraftError:
    return VoicegraftError(f"Kokoro needs a package ({error}): pip install voicegraft[teacher]")


def _as_output(name: str) -> bytes:
    """What makes a value inside of an ONNX graph an output, behind the bytes of the model.

    Messages of protocol buffers merge when their bytes are joined: this is a ModelProto of which only graph (7) is there, in it
    output (12), in it name (1).
    """
    message = name.encode()
    for number in (1, 12, 7):
        message = bytes([number << 3 | 2, len(message)]) + message  # all shorter than 128 bytes
    return message
