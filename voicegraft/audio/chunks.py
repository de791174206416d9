"""Audio handed out in pieces, in constant memory, and without clicks where sentences meet.

Everything here gives the same samples however the input is cut.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]  # [T], in [-1, 1]


@dataclass(frozen=True)
class Seams:
    """Joins sentences: each fades in and out on a raised cosine, with silence between.

    A sentence that a model ends at any value but zero would end in a click.
    """

    sample_rate: int  # Hz
    fade_sec: float = 0.005  # at either end of a sentence; also the delay that fading adds
    silence_block_sec: float = 0.1  # a long pause comes in pieces of at most this

    def join(self, sentences: Iterable[tuple[Iterable[Samples], float]]) -> Iterator[Samples]:
        """Yields all sentences as one stream.

        Args:
            sentences: for each, its chunks `[T]` (drawn one at a time) and the pause after it in seconds.
        """
        for chunks, pause_sec in sentences:
            yield from self.fade(chunks)
            yield from self.silence(pause_sec)

    def fade(self, chunks: Iterable[Samples]) -> Iterator[Samples]:
        """One sentence, faded at both ends; `fade_sec` of it are held back until more comes, or the end."""
        fade_len = round(self.fade_sec * self.sample_rate)
        fade_in = _rising(fade_len)
        held = np.zeros(0, dtype=np.float32)
        num_seen = 0
        for chunk in chunks:
            head = fade_in[num_seen : num_seen + len(chunk)]
            num_seen += len(chunk)
            faded = np.concatenate([held, chunk[: len(head)] * head, chunk[len(head) :]])
            ready = max(0, len(faded) - fade_len)
            held = faded[ready:]
            if ready:
                yield faded[:ready]
        if len(held):
            yield held * _rising(len(held))[::-1]

    def silence(self, sec: float) -> Iterator[Samples]:
        """`sec` seconds of zeros."""
        block = np.zeros(max(1, round(self.silence_block_sec * self.sample_rate)), dtype=np.float32)
        num_left = round(sec * self.sample_rate)
        while num_left > 0:
            yield block[:num_left].copy()
            num_left -= len(block)


def _rising(num_samples: int) -> Samples:
    """Half a raised cosine, from just above 0 to just below 1; reversed it sums with itself to 1."""
    phase = (np.arange(num_samples) + 0.5) / max(1, num_samples)
    return (0.5 - 0.5 * np.cos(np.pi * phase)).astype(np.float32)
