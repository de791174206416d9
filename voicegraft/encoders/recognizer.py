"""A pretrained recogniser and a voice detector: where there is speech in a recording, and which words Whisper hears there.

Whisper (arXiv 2212.04356) runs through faster-whisper, which brings Silero's detector of voice activity with it. Nothing is
downloaded: the model is a folder for CTranslate2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voicegraft.core.artifacts import file_digest
from voicegraft.core.errors import VoicegraftError
from voicegraft.encoders.ctranslate2 import MODEL

RATE = 16_000  # Hz; both were trained at this rate, and the library takes it for granted
SURE_LOG_PROB = -1.0  # mean of a token, from which Whisper's words are believed; section 4.5 of its paper
BEAM = 5
PAUSE_SEC = 0.5  # of silence, after which a recording may be cut
MARGIN_SEC = 0.3  # that stay on either side of speech
GAP_SEC = 2.0  # of silence that a stretch may hold within
LONGEST_SEC = 28.0  # of a stretch; Whisper reads 30


@dataclass(frozen=True)
class Words:
    """What was heard in one stretch of sound."""

    text: str  # "" for none
    sure: bool = True  # whether the recogniser trusts it, by Whisper's own two limits


class FasterWhisper:
    """A Whisper of CTranslate2 on the CPU: int8, beam of 5, temperature 0, no timestamps; each window of 30 s for itself."""

    def __init__(self, folder: Path, num_threads: int = 0):
        """
        Args:
            num_threads: 0 lets CTranslate2 choose.

        Raises:
            VoicegraftError: faster-whisper is missing, or the folder holds no such model.
        """
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
            self._model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=num_threads)
        except Exception as error:  # CTranslate2 and tokenizers have errors of their own
            raise VoicegraftError(f"cannot load {folder} as a Whisper for CTranslate2: {error}; get it anew") from error
        weights = folder / MODEL
        self.name = f"{folder.resolve().name} ({weights.stat().st_size / 1e6:.0f} MB, {file_digest(weights)[:16]})"
        self.languages = tuple(self._model.supported_languages)

    def recognize(self, samples: np.ndarray, language: str = "en") -> Words:
        """Float32 samples ``[T]`` at ``RATE`` -> the words in them; without a language the model tells it.

        Raises:
            VoicegraftError: the model does not know the language.
        """
        if language and language not in self.languages:
            raise VoicegraftError(f"no language {language!r}; this recogniser knows {', '.join(self.languages)}")
        segments, _ = self._model.transcribe(
            samples,
            language=language or None,
            beam_size=BEAM,
            temperature=0.0,
            condition_on_previous_text=False,
            vad_filter=False,
            without_timestamps=True,
        )
        heard = list(segments)
        sure = all(
            s.avg_logprob > SURE_LOG_PROB and s.compression_ratio < 2.4 for s in heard
        )  # section 4.5 of the paper
        return Words(" ".join(segment.text.strip() for segment in heard).strip(), sure)


def speech_stretches(samples: np.ndarray) -> Iterator[tuple[int, int]]:
    """Float32 samples ``[T]`` at ``RATE`` -> first sample of each stretch with speech, and the one after its last.

    Stretches are cut at pauses and as long as they may be; all speech is in one of them. At any level: turning quiet
    recordings up finds no more speech, and takes hum for some.

    Raises:
        VoicegraftError: faster-whisper is missing.
    """
    try:
        from faster_whisper.vad import VadOptions, get_speech_timestamps
    except ImportError as error:
        raise VoicegraftError(
            f"finding speech needs faster-whisper ({error}): pip install voicegraft[whisper]"
        ) from error
    options = VadOptions(
        max_speech_duration_s=LONGEST_SEC,
        min_silence_duration_ms=round(1000 * PAUSE_SEC),
        speech_pad_ms=round(1000 * MARGIN_SEC),
    )
    begin = end = -1
    for found in get_speech_timestamps(samples, options):
        if begin >= 0 and found["end"] - begin <= LONGEST_SEC * RATE and found["start"] - end <= GAP_SEC * RATE:
            end = found["end"]
            continue
        if begin >= 0:
            yield begin, end
        begin, end = found["start"], found["end"]
    if begin >= 0:
        yield begin, end
