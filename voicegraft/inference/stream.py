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
from voicegraft.acoustic.vocoder import Vocoder
from voicegraft.inference.sentence import SpeakOptions


@torch.inference_mode()
def acoustic_frames(
    model: AcousticLM,
    semantic: Iterable[int],
    voice: str,
    options: SpeakOptions,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Semantic tokens -> frames ``[1, code_width]``, ``ahead`` frames behind the tokens, all frames in the end."""
    c = model.config
    device = model.codebooks.device
    voice_number = torch.tensor([c.voices.index(voice)], device=device)
    state = model.start()
    recent = [model.beyond] * c.past
    span = c.past + 1 + c.ahead

    def step() -> Tensor:
        nonlocal state
        ids = torch.tensor([recent[:span]], device=device)
        _, state = model.step(
            ids,
            voice_number,
            state,
            options.acoustic_temperature,
            generator,
            forget=not options.acoustic_history,
            blend=options.acoustic_blend,
        )
        del recent[0]
        return state.previous

    for token in semantic:
        recent.append(token)
        if len(recent) == span:
            yield step()
    while len(recent) > c.past:
        recent += [model.beyond] * (span - len(recent))
        frame = step()
        # What was appended stands for the end and is not spoken.
        while recent and recent[-1] == model.beyond and len(recent) > c.past:
            del recent[-1]
        yield frame


@torch.inference_mode()
def render(vocoder: Vocoder, frames: Iterable[Tensor], first_chunk: int, chunk: int) -> Iterator[np.ndarray]:
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
            yield samples[0].float().cpu().numpy()
    if waiting:
        samples, state = vocoder.step(torch.stack(waiting, -1), state)
        heard = True
        yield samples[0].float().cpu().numpy()
    if heard:
        yield vocoder.finish(state)[0].float().cpu().numpy()
