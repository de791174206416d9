"""Sound from the microphone, through PortAudio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Waveform


def record(sample_rate: int, wait: Callable[[], object]) -> Waveform:
    """Records from now until ``wait`` returns, mono.

    Raises:
        VoicegraftError: sounddevice or PortAudio is missing, there is no microphone, or it gave nothing.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there, PortAudio is not
        raise VoicegraftError(
            f"the microphone needs sounddevice ({error}): pip install voicegraft[microphone], and on Linux libportaudio2"
        ) from error
    blocks: list[np.ndarray] = []

    def take(block: np.ndarray, *_: Any) -> None:
        blocks.append(block[:, 0].copy())

    try:
        with sounddevice.InputStream(sample_rate, channels=1, dtype="float32", callback=take):
            wait()
    except sounddevice.PortAudioError as error:
        raise VoicegraftError(f"cannot record: {error}; is a microphone connected?") from error
    if not blocks:
        raise VoicegraftError("the microphone gave no sound; speak before you end the recording")
    return Waveform(np.concatenate(blocks), sample_rate)
