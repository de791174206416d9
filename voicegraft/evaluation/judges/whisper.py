"""The recogniser that reports lead with: Whisper through faster-whisper, and Whisper's own form in which texts are compared.

The model is a folder for CTranslate2 (arXiv 2212.04356): a part, or one of the user's. Nothing is downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from voicegraft.core.artifacts import file_digest
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.parts import JUDGE, find_part, known_parts
from voicegraft.encoders.ctranslate2 import MODEL
from voicegraft.encoders.recognizer import BEAM, FasterWhisper
from voicegraft.evaluation.judges.base import judge_samples, silent

_PACKAGES = ("faster_whisper", "whisper_normalizer")  # of the extra


def judge_folder() -> Path:
    """The folder of the part that judges.

    Raises:
        VoicegraftError: the part or the packages are missing, or the part is damaged; says how to get them.
    """
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise VoicegraftError(f"the recogniser Whisper needs {' and '.join(missing)}: pip install voicegraft[whisper]")
    folder, known = find_part(JUDGE), known_parts()[JUDGE].files[MODEL]
    if known and file_digest(folder / MODEL) != known.sha256:
        raise VoicegraftError(f"{folder / MODEL} is damaged (another SHA-256); run: voicegraft parts get {JUDGE}")
    return folder


class FasterWhisperRecognizer:
    """Words by a Whisper of CTranslate2, in English, on one CPU thread; no voice activity detector."""

    def __init__(self, folder: Path) -> None:
        self._model = FasterWhisper(folder, num_threads=1)
        self.name = f"{self._model.name}, faster-whisper, int8, beam {BEAM}, temperature 0, English"

    def transcribe(self, samples: np.ndarray, sample_rate: int) -> str:
        heard = judge_samples(samples, sample_rate)
        return "" if silent(heard) else self._model.recognize(heard).text


def english_normalizer() -> Callable[[str], str]:
    """Whisper's normaliser of English, the code of transformers with the table of spellings of whisper-normalizer.

    Numbers become digits, contractions are written out, British spelling becomes American, hesitations vanish.
    """
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    try:
        table = resources.files("whisper_normalizer") / "normalizers" / "english.json"
    except ImportError as error:
        raise VoicegraftError(f"texts are compared by {error.name}: pip install voicegraft[whisper]") from error
    normalizer = EnglishTextNormalizer(json.loads(table.read_text(encoding="utf-8")))
    return lambda text: str(normalizer(text)).strip()
