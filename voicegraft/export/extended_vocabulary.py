"""A backbone whose own embedding and output layer hold the speech vocabulary too, behind the text's.

This is the form of programs that know no speech embedding: speech token ``i`` is token ``first_id + i`` of an ordinary
language model. No text id moves. What a family does to its embeddings and logits on the way is measured on the model itself
and not looked up by its name, so the rows that are appended give the same inputs and logits as ``SpeechEmbedding``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.core.errors import VoicegraftError
from voicegraft.fusion.speech_embedding import SpeechEmbeddingConfig
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.tokenizers.vocabulary import END_OF_UNIT, MASK, SPEECH_BOS, SpeechVocabulary

_PROBES = 16  # token ids that are looked at to see what a family does


@dataclass(frozen=True)
class Grown:
    """Where the speech vocabulary begins in a grown backbone, and what its logits go through."""

    first_id: int  # of speech token 0
    logit_softcap: float | None  # logits come as cap * tanh(x / cap), those of speech with those of text


def token_names(vocabulary: SpeechVocabulary) -> list[str]:
    """A readable name for each speech id."""
    controls = {SPEECH_BOS: "<|say|>", END_OF_UNIT: "<|advance|>", MASK: "<|hidden|>"}
    return [
        *(controls[i] for i in sorted(controls)),
        *(f"<|voice:{voice}|>" for voice in vocabulary.voices),
        *(f"<|unit:{unit}|>" for unit in vocabulary.units),
        *(f"<|code_{i}|>" for i in range(vocabulary.num_codes)),
        *(f"<|lasts_{i + 1}|>" for i in range(vocabulary.num_runs)),
    ]


def fits_ids(config: SpeechEmbeddingConfig) -> bool:
    """Whether every position is one row of an embedding table, so that ids alone say everything."""
    return config.layout == "plain" and config.frames_per_step == 1


def grow(lm: SpeechLM) -> Grown:
    """Appends the speech embedding to the backbone's embedding and output layer, and their names to its tokenizer, in place.

    Input and output rows of speech differ, so an output layer that was tied to the embedding becomes a copy of its own.

    Raises:
        VoicegraftError: the expert acts from the voice's marker on, which no adapter of a stock program does; or the backbone
            makes its logits in a way that output rows cannot follow.
    """
    if lm.speech_embedding.config.activated:
        raise VoicegraftError(
            "this speech expert acts from the voice's marker on (activated), but other programs apply an adapter to the "
            "whole sequence: train one with activated=false to export it"
        )
    if lm.speech_embedding.config.num_layers:
        raise VoicegraftError(
            "this speech expert lives in the lower layers of its backbone (num_layers), but other programs run all of them: "
            "train one with num_layers=0 to export it"
        )
    backbone, rows = lm.backbone, lm.speech_embedding
    embedding, head = backbone.get_input_embeddings(), backbone.get_output_embeddings()
    if not isinstance(embedding, nn.Embedding) or not isinstance(head, nn.Linear):
        raise VoicegraftError(
            f"cannot export a {backbone.config.model_type}: expected an embedding table and a linear output layer, found "
            f"{type(embedding).__name__} and {type(head).__name__}"
        )
    if hasattr(head, "mole"):
        raise VoicegraftError(
            "an expert adapts the output layer, which grows in an export: train it without that target"
        )
    scales = _measured(backbone, embedding, head)
    known = max(lm.tokenizer.get_vocab().values()) + 1
    first = max(known, embedding.num_embeddings, head.out_features)
    _name_tokens(lm.tokenizer, known, first, token_names(rows.config.vocabulary))
    embedding.weight = _grown(embedding.weight, first, rows.token.weight / scales.embedding)
    embedding.num_embeddings = len(embedding.weight)
    head.weight = _grown(head.weight, first, rows.head.weight / scales.output)
    head.out_features = len(head.weight)
    if head.bias is not None:
        head.bias = _grown(head.bias, first, rows.head.weight.new_zeros(len(rows.head.weight)))
    backbone.config.vocab_size = head.out_features
    backbone.config.tie_word_embeddings = False
    return Grown(first, scales.softcap)


def _grown(old: Tensor, first: int, rows: Tensor) -> nn.Parameter:
    gap = old.new_zeros(first - len(old), *old.shape[1:])
    return nn.Parameter(torch.cat([old.detach(), gap, rows.detach().to(old)]), requires_grad=False)


def _name_tokens(tokenizer: PreTrainedTokenizerBase, known: int, first: int, names: list[str]) -> None:
    """Many a table has more rows than its tokenizer has tokens; the rows between get names that no text holds."""
    names = [*(f"<|empty:{i}|>" for i in range(known, first)), *names]
    if taken := sorted(set(names) & tokenizer.get_vocab().keys()):
        raise VoicegraftError(f"the text tokenizer has a token {taken[0]} already: was this backbone exported before?")
    tokenizer.add_tokens([AddedToken(n, special=True, normalized=False) for n in names], special_tokens=True)
    ids = tokenizer.get_vocab()
    if wrong := [name for i, name in enumerate(names) if ids.get(name) != known + i]:
        raise VoicegraftError(
            f"the text tokenizer gives {wrong[0]} the id {ids.get(wrong[0])}, expected {known + names.index(wrong[0])}: its "
            "ids have holes, which an export cannot fill"
        )


# What a family does


@dataclass(frozen=True)
class _Scales:
    embedding: float  # of what leaves the embedding layer to its row (Gemma: the root of the width)
    output: float  # of logits to what the output row and the last hidden state give
    softcap: float | None


@torch.inference_mode()
def _measured(backbone: PreTrainedModel, embedding: nn.Embedding, head: nn.Linear) -> _Scales:
    ids = torch.linspace(0, embedding.num_embeddings - 1, _PROBES, device=embedding.weight.device).long()[None]
    seen: dict[str, Tensor] = {}

    def look(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.update(before=inputs[0], after=output)

    hook = head.register_forward_hook(look)
    try:
        logits = cast(Any, backbone)(input_ids=ids, use_cache=False).logits
    finally:
        hook.remove()
    hidden = cast(Any, backbone.base_model)(input_ids=ids, use_cache=False).last_hidden_state
    enters, leaves = _ratio(embedding.weight[ids], embedding(ids)), _ratio(hidden, seen["before"])
    softcap: float | None = None
    scales = _ratio(seen["after"], logits)
    if scales is None:
        softcap = getattr(backbone.config.get_text_config(), "final_logit_softcapping", None)
        capped = None if softcap is None else torch.tanh(seen["after"] / softcap) * softcap
        scales = None if capped is None else _ratio(capped, logits)
    if enters is None or leaves is None or scales is None:
        raise VoicegraftError(
            f"cannot export a {backbone.config.model_type}: it changes its embeddings or logits by more than a factor or a "
            "soft cap"
        )
    return _Scales(enters, leaves * scales, softcap)


def _ratio(before: Tensor, after: Tensor) -> float | None:
    """The factor that turns one into the other; None if there is none."""
    x, y = before.double(), after.double()
    factor = (x * y).sum() / (x * x).sum()
    error = (x * factor - y).abs().max() / y.abs().max()
    if not error < 16 * torch.finfo(after.dtype).eps:
        return None
    return 1.0 if torch.equal(before, after) else float(factor)
