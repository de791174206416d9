"""Router confusion: which expert is chosen for which task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from voicegraft.fusion.experts import SPEECH, TEXT
from voicegraft.fusion.mole import Routing
from voicegraft.fusion.router import RouterState
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.inference.engine import sentence_tokens
from voicegraft.inference.sentence import SpeakOptions


@torch.inference_mode()
def confusion(lm: SpeechLM, texts: Sequence[list[int]], sentences: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Runs prompts of both tasks, one by one, and counts the experts that were chosen for them.

    The chosen expert has the largest gate, in the mean over the layers. A router of tokens decides at every position: for a
    text the mean over all positions after the first counts, for speech the decision at the voice marker, where speech begins.

    Args:
        texts: prompts to be continued in text, as token ids.
        sentences: (sentence, voice) to be spoken.

    Returns:
        ``decided_by`` (router, task or fixed gates), ``experts``, ``counts`` (task -> expert -> number of prompts) and
        ``right`` (task -> share that the task's own expert got, or None without prompts).
    """
    counts = {task: dict.fromkeys(lm.mole.names, 0) for task in (TEXT, SPEECH)}
    for ids in texts:
        gates = lm.writing()
        with lm.mole.gated(gates):
            lm.backbone.base_model(
                input_ids=torch.tensor([ids], device=lm.speech_embedding.token.weight.device), use_cache=False
            )
        counts[TEXT][_chosen(lm, gates, slice(1 if len(ids) > 1 else 0, None))] += 1
    for sentence, voice in sentences:
        state = lm.start(sentence_tokens(lm, sentence, voice, SpeakOptions()).machine.prompt)
        counts[SPEECH][_chosen(lm, state.decoding.gates, slice(-1, None))] += 1
    totals = {task: sum(row.values()) for task, row in counts.items()}
    decided_by = "task" if lm.router is None else "router"
    return {
        "decided_by": decided_by if lm.fixed is None else "fixed gates",
        "experts": list(lm.mole.names),
        "counts": counts,
        "right": {task: counts[task][task] / total if total else None for task, total in totals.items()},
    }


def _chosen(lm: SpeechLM, gates: str | Tensor | Routing, positions: slice) -> str:
    """The expert with the largest gate, after the forward that the gates were used in."""
    if isinstance(gates, str):
        return gates
    if isinstance(gates, RouterState):
        of_tokens = gates.router.config.settings.granularity == "token"
        weights = [gates.router.weigh(logits) for logits in gates.logits]  # [..., E] of every decision
        each = [weight[:, positions] if of_tokens else weight for weight in weights]
    else:
        each = [cast(Tensor, gates)]
    mean = torch.stack([weight.reshape(-1, weight.shape[-1]).mean(0) for weight in each]).mean(0)
    return lm.mole.names[int(mean.argmax())]
