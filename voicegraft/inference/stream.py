"""From semantic tokens to sound, as a stream: two small machines, each handing on what is final.

acoustic_frames   semantic tokens -> acoustic frames              (acoustic LM, a few frames behind)
render            frames -> samples                               (vocoder, its delay behind)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from voicegraft.inference.sentence import SpeakOptions

if TYPE_CHECKING:
    from voicegraft.acoustic.acoustic_lm import AcousticLM
    from voicegraft.tokenizers.base import FrameDecoder


def acoustic_frames(
    model: AcousticLM,
    semantic: Iterable[int],
    voice: np.ndarray,
    options: SpeakOptions,
    random: np.random.Generator | None = None,
) -> Iterator[np.ndarray]:
    """Semantic tokens -> frames ``[code_width]``, ``ahead`` tokens behind, all frames in the end.

    Args:
        voice: the vector that tells how to sound, ``[voice_width]``.
    """
    c = model.config
    random = random or np.random.default_rng()
    state = model.start()
    near = [model.beyond] * c.past  # the tokens from ``first`` on
    first = -c.past
    frame, num_tokens = 0, 0

    def step() -> np.ndarray:
        nonlocal state, frame, first
        begin = c.ratio.token_of(frame) - c.past
        del near[: begin - first]
        span = near[: c.past + 1 + c.ahead]
        span += [model.beyond] * (c.past + 1 + c.ahead - len(span))
        first = begin
        drawn = options.acoustic_temperature > 0 and not options.acoustic_blend
        uniform = random.random((c.num_codebooks, c.codebook_size), np.float32) if drawn else None
        made, state = model.next_frame(
            span,
            voice,
            state,
            options.acoustic_temperature,
            uniform,
            forget=not options.acoustic_history,
            blend=options.acoustic_blend,
        )
        frame += 1
        return made

    for token in semantic:
        near.append(token)
        num_tokens += 1
        while c.ratio.token_of(frame) + c.ahead < num_tokens:
            yield step()
    while frame < c.ratio.num_frames(num_tokens):
        yield step()


def render(vocoder: FrameDecoder, frames: Iterable[np.ndarray], first_chunk: int, chunk: int) -> Iterator[np.ndarray]:
    """Frames ``[code_width]`` -> float32 samples, rendered some frames at a time."""
    state = vocoder.start()
    frames = iter(frames)
    size, begun = first_chunk, False
    while waiting := list(islice(frames, size)):
        samples, state = vocoder.next_samples(np.stack(waiting), state)
        size, begun = chunk, True
        if len(samples):  # a decoder that looks ahead has nothing yet
            yield samples
    if begun:
        yield vocoder.last_samples(state)
