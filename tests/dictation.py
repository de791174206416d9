"""A tiny backbone that writes what a test tells it to."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tests import tiny
from voicegraft.data.chat import encode
from voicegraft.fusion.speech_lm import SpeechLM


@contextmanager
def dictated(lm: SpeechLM, *answers: str) -> Iterator[list[int]]:
    """One answer after another, each closed by the end token; only the text softmax is overruled, so speech stays itself.

    Yields the tokens that are still to be written.
    """
    end = tiny.byte_tokenizer().eos_token_id
    left = [token for answer in answers for token in (*encode(tiny.byte_tokenizer(), answer), end)]

    def say(module: nn.Module, args: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        return torch.zeros_like(logits).index_fill_(-1, torch.tensor(left.pop(0)), 50.0)

    handle = lm.backbone.get_output_embeddings().register_forward_hook(say)
    try:
        yield left
    finally:
        handle.remove()
