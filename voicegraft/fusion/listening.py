"""Hearing: what a frozen speech encoder and a connector make of audio stands among the text's embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from voicegraft.data.chat import AUDIO


def embedded(backbone: PreTrainedModel, ids: Tensor, heard: Sequence[Tensor]) -> Tensor:
    """Token ids ``[B, L]`` -> the backbone's embeddings ``[B, L, D]``, with the vectors of audio in the places of ``AUDIO``.

    Args:
        heard: vectors ``[N, D]`` of each piece of audio, in the order of the rows and of the places in them.

    Raises:
        ValueError: there are more places than vectors, or fewer: ids are ``data.chat.widened`` by the vectors' numbers.
    """
    embeddings: Tensor = backbone.get_input_embeddings()(ids.clamp(min=0))
    places = ids == AUDIO
    if int(places.sum()) != sum(map(len, heard)):
        raise ValueError(f"expected {int(places.sum())} vectors of audio, got {sum(map(len, heard))}")
    if not heard:
        return embeddings
    return embeddings.masked_scatter(places[..., None], torch.cat(list(heard)).to(embeddings))
