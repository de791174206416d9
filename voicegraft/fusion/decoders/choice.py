"""Which decoder a model runs on: the one place that decides it."""

from __future__ import annotations

from voicegraft.fusion.decoders.base import Decoder
from voicegraft.fusion.decoders.folded import FoldedDecoder, FoldedModel
from voicegraft.fusion.decoders.transformers import TransformersDecoder
from voicegraft.fusion.depth import lower_layers
from voicegraft.fusion.mole import MoLE

FOLD_BELOW = 200_000_000  # parameters; of smaller models copies are made, with the experts folded in


def open_decoder(mole: MoLE, routes_tokens: bool = False, num_layers: int = 0) -> Decoder:
    """The fastest decoder for this backbone; what it copies of the weights, it copies now.

    Args:
        routes_tokens: whether gates change inside a sequence, so that nothing can be folded.
        num_layers: of the backbone that sequences pass (``fusion.depth``); 0: all.
    """
    size = sum(parameter.numel() for parameter in mole.backbone.parameters())
    folds = size < FOLD_BELOW and not routes_tokens and FoldedModel.supports(mole.backbone.base_model)
    inner = lower_layers(mole.backbone, num_layers)
    return FoldedDecoder(mole, inner) if folds else TransformersDecoder(mole, inner)
