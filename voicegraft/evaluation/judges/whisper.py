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
from voicegraft.evaluation.judges.base import judge_samples, silent

MODEL = "model.bin"  # the weights, by CTranslate2's name
_PACKAGES = ("faster_whisper", "whisper_normalizer")  # of the extra
_BEAM = 5


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
    """Words by a Whisper of CTranslate2, in English, on one CPU thread.

    int8, beam of 5, temperature 0, no timestamps, no voice activity detector; each window of 30 s for itself.
    """

    def __init__(self, folder: Path) -> None:
        if missing := [name for name in (MODEL, "config.json", "tokenizer.json") if not (folder / name).is_file()]:
            # Without its tokenizer the library would fetch one.
            raise VoicegraftError(
                f"expected a Whisper for CTranslate2 in {folder}, which lacks {' and '.join(missing)}; get it anew"
            )
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise VoicegraftError(f"Whisper needs faster-whisper ({error}): pip install voicegraft[whisper]") from error
        try:
            self._model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
        except Exception as error:  # CTranslate2 and tokenizers have errors of their own
            raise VoicegraftError(f"cannot load {folder} as a Whisper for CTranslate2: {error}; get it anew") from error
        weights = folder / MODEL
        who = f"{folder.resolve().name} ({weights.stat().st_size / 1e6:.0f} MB, {file_digest(weights)[:16]})"
        self.name = f"{who}, faster-whisper, int8, beam {_BEAM}, temperature 0, English"

    def transcribe(self, samples: np.ndarray, sample_rate: int) -> str:
        heard = judge_samples(samples, sample_rate)  # at 16 kHz, which the library takes for granted
        if silent(heard):
            return ""
        segments, _ = self._model.transcribe(
            heard,
            language="en",
            beam_size=_BEAM,
            temperature=0.0,
            condition_on_previous_text=False,
            vad_filter=False,
            without_timestamps=True,
        )
        return " ".join(segment.text.strip() for segment in segments)


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
