"""Two sentences that the shipped pack speaks, once for all tests that listen."""

from functools import cache

import numpy as np

from voicegraft.inference.speaker import Speaker
from voicegraft.text.units import words_of

TEXTS = ("The old dog ran home before the rain came.", "She put the letter in the box by the door.")


@cache
def spoken() -> tuple[int, dict[str, np.ndarray]]:
    """The sample rate, and the samples of each text."""
    speaker = Speaker.load()
    return speaker.sample_rate, {text: speaker.say(text, "heart", seed=1).samples for text in TEXTS}


def words_in(text: str) -> list[str]:
    return [word.key for word in words_of(text)]
