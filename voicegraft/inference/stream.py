"""From semantic tokens to sound, as a stream: two small machines, each handing on what is final.

acoustic_frames   semantic tokens -> acoustic frames              (acoustic LM, a few frames behind)
render            frames -> samples                               (vocoder, its delay behind)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from voicegraft.acoustic.acoustic_lm import AcousticLM
from voicegraft.inference.sentence import SpeakOptions
from voicegraft.tokenizers.base import FrameDecoder


@torch.inference_mode()
def acoustic_frames(
    model: AcousticLM,
    semantic: Iterable[int],
    voice: str,
    options: SpeakOptions,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Semantic tokens -> frames ``[1, code_width]``, ``ahead`` tokens behind, all frames in the end."""
    c = model.config
    device = model.codebooks.device
    voice_number = torch.tensor([c.voices.index(voice)], device=device)
    state = model.start()
    near = [model.beyond] * c.past  # the tokens from ``first`` on
    first = -c.past
    frame, num_tokens = 0, 0

    def step() -> Tensor:
        nonlocal state, frame, first
        begin = c.clock.token_of(frame) - c.past
        del near[: begin - first]
        first = begin
        span = near[: c.past + 1 + c.ahead]
        ids = torch.tensor([span + [model.beyond] * (c.past + 1 + c.ahead - len(span))], device=device)
        _, state = model.step(
            ids,
            voice_number,
            state,
            options.acoustic_temperature,
            generator,
            forget=not options.acoustic_history,
            blend=options.acoustic_blend,
        )
        frame += 1
        return state.previous

    for token in semantic:
        near.append(token)
        num_tokens += 1
        while c.clock.token_of(frame) + c.ahead < num_tokens:
            yield step()
    while frame < c.clock.num_frames(num_tokens):
        yield step()


@torch.inference_mode()
def render(vocoder: FrameDecoder, frames: Iterable[Tensor], first_chunk: int, chunk: int) -> Iterator[np.ndarray]:
    """Frames ``[1, code_width]`` -> float32 samples, rendered some frames at a time."""
    state = vocoder.start()
    waiting: list[Tensor] = []
    size = first_chunk
    heard = False
    for frame in frames:
        waiting.append(frame)
        if len(waiting) == size:
            samples, state = vocoder.step(torch.stack(waiting, -1), state)
            waiting, size, heard = [], chunk, True
            if samples.shape[-1]:  # a decoder that looks ahead has nothing yet
                yield samples[0].float().cpu().numpy()
    if waiting:
        samples, state = vocoder.step(torch.stack(waiting, -1), state)
        heard = True
        if samples.shape[-1]:
            yield samples[0].float().cpu().numpy()
    if heard:
        yield vocoder.finish(state)[0].float().cpu().numpy()
