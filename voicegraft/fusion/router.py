"""The router: a light MLP that weighs the experts, from what enters the decoder's layers.

    segment   one decision for a whole sequence, from its prompt (a question, or a sentence and the voice that is to say it)
    token     one at every position, from what has come so far; it may change its mind in mid-sequence
    shared    all layers follow the decision at the first one
    per layer every layer has its own: of a segment, told apart by the output; of tokens, from the layer's own input
    soft      weights from a softmax; top-1 the likeliest expert alone

A decision reads positions through one hidden layer and looks at the pooled result: its mean and maximum over the prompt, or
a token's own and the maximum up to it. So one marker anywhere in a long prompt is seen, nothing looks ahead, and decoding
remembers no more than a vector. MoLE-Llama (arXiv 2410.20336) routes each input by a lightweight MLP; where it sits and how
hard it chooses is not published, so all of this is configuration (docs/fusion.md has the measurements). X-LoRA
(arXiv 2402.07148) reads a whole extra pass of the model instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.core.artifacts import described_by, load_artifact, save_artifact
from voicegraft.core.errors import VoicegraftError
from voicegraft.fusion.experts import LISTENING
from voicegraft.fusion.mole import Gates, MoLE


@dataclass(frozen=True)
class RouterSettings:
    granularity: Literal["segment", "token"] = "segment"
    per_layer: bool = False
    hardness: Literal["top-1", "soft"] = "top-1"
    hidden: int = 32  # units that read a position


@dataclass(frozen=True)
class RouterConfig:
    """What a router belongs to; checked when it is put to work."""

    experts: tuple[str, ...]  # names, in the order of the gates
    width: int  # D of the backbone
    num_layers: int
    backbone: str  # fingerprint of the backbone's weights
    settings: RouterSettings = field(default_factory=RouterSettings)


class _Reader(nn.Module):
    """Reads positions ``[B, T, D]`` -> ``[B, T, hidden]``, and decides from two pooled views of them."""

    def __init__(self, width: int, hidden: int, outputs: int):
        super().__init__()
        # Embeddings differ much in length, and between what a family calls its embeddings and what enters its layers.
        self.norm = nn.RMSNorm(width, elementwise_affine=False)
        self.enter = nn.Linear(width, hidden)
        self.leave = nn.Linear(2 * hidden, outputs)

    def read(self, x: Tensor) -> Tensor:
        return F.gelu(self.enter(self.norm(x.to(self.enter.weight))))


class Router(nn.Module):
    def __init__(self, config: RouterConfig):
        super().__init__()
        self.config = config
        self.num_unrouted = 0  # experts behind those that it chooses among; they get no weight
        settings = config.settings
        own = settings.granularity == "token" and settings.per_layer
        spread = settings.granularity == "segment" and settings.per_layer
        outputs = len(config.experts) * (config.num_layers if spread else 1)
        self.readers = nn.ModuleList(
            _Reader(config.width, settings.hidden, outputs) for _ in range(config.num_layers if own else 1)
        )

    def start(self, prompt: Tensor | None = None) -> RouterState:
        """What ``MoLE.gated`` takes for the forwards of one batch of sequences, from their beginning on.

        Args:
            prompt: ``[B, T]``, true where a padded batch has its prompts; else the first forward is the prompt.
        """
        return RouterState(self, prompt)

    def decide(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        """Segment routers: embeddings ``[B, T, D]`` of the prompts -> logits ``[B, E]``, or ``[B, num_layers, E]``."""
        reader: _Reader = self.readers[0]  # type: ignore[assignment]
        read = reader.read(x)
        if prompt is None:
            mean, most = read.mean(1), read.amax(1)
        else:
            inside = prompt[..., None]
            mean = (read * inside).sum(1) / inside.sum(1)
            most = read.masked_fill(~inside, -torch.inf).amax(1)
        logits: Tensor = reader.leave(torch.cat([mean, most], -1))
        return logits.unflatten(-1, (-1, len(self.config.experts))) if self.config.settings.per_layer else logits

    def weigh(self, logits: Tensor) -> Tensor:
        """Logits ``[..., E]`` -> gates ``[..., E + num_unrouted]``; those of top-1 are hard, with the gradient of the soft
        ones."""
        soft = F.pad(logits.softmax(-1), (0, self.num_unrouted))
        if self.config.settings.hardness == "soft":
            return soft
        hard = F.one_hot(logits.argmax(-1), soft.shape[-1]).to(soft)
        return hard + soft - soft.detach() if soft.requires_grad else hard

    def segment_gates(self, prompt: Tensor) -> str | Tensor:
        """Embeddings ``[1, T, D]`` of one prompt -> the gates of its segment, for ``MoLE.gated`` and ``MoLE.merged``:
        an expert's name, or weights ``[E]`` or ``[num_layers, E]``."""
        weights = self.weigh(self.decide(prompt))[0]
        if self.config.settings.hardness == "top-1":
            winners = weights.reshape(-1, weights.shape[-1]).argmax(-1)
            if bool((winners == winners[0]).all()):
                return self.config.experts[int(winners[0])]
        return weights

    def save(self, folder: Path, provenance: dict[str, object]) -> None:
        save_artifact(folder, "router", self.config, self.state_dict(), provenance)

    @staticmethod
    def load(folder: Path, mole: MoLE, backbone: str) -> Router:
        """Loads a router for these experts on the backbone of this fingerprint; it need not know the listening expert.

        Raises:
            VoicegraftError: damaged, of other experts or of another backbone.
        """
        saved = load_artifact(folder, "router", RouterConfig)
        config = saved.config
        # Whether there is audio in a prompt needs no router: nobody asks it then.
        known = mole.names if LISTENING in config.experts else tuple(n for n in mole.names if n != LISTENING)
        if config.experts != known:
            raise VoicegraftError(
                f"the router in {folder} chooses among {len(config.experts)} experts ({', '.join(config.experts)}), this "
                f"model has {len(mole.names)} ({', '.join(mole.names)}): train a router for these"
            )
        if config.backbone != backbone:
            raise VoicegraftError(
                f"the router in {folder} was trained on backbone {config.backbone}, this one is {backbone}: train a router "
                "for this one"
            )
        with described_by(folder):
            router = Router(config)
            router.load_state_dict(saved.tensors)
        router.num_unrouted = len(mole.names) - len(known)
        return router.eval().requires_grad_(False)


class RouterState:
    """A router at work on one batch of sequences; what it remembers of them is here, not in the router."""

    def __init__(self, router: Router, prompt: Tensor | None = None):
        self.router = router
        self.logits: list[Tensor] = []  # of every decision, [B, E], [B, num_layers, E] or [B, T, E]
        self._prompt = prompt
        self._most: dict[int, Tensor] = {}  # reader -> [B, 1, hidden] so far
        self._decided: Gates | list[Gates] = None  # the decision that later layers or positions follow

    def at(self, layer: int, hidden: Tensor) -> Gates:
        """Gates of a layer whose input is ``hidden`` ``[B, T, D]``: ``[B, 1, E]``, ``[B, T, E]``, or one expert's number."""
        settings = self.router.config.settings
        if settings.granularity == "segment":
            if self._decided is None:
                self._decided = self._decide_segment(hidden)
            return self._decided[layer] if isinstance(self._decided, list) else self._decided
        if settings.per_layer:
            return self._decide_tokens(layer, hidden)
        if layer == 0:
            self._decided = self._decide_tokens(0, hidden)
        return self._decided  # type: ignore[return-value]

    def _decide_segment(self, hidden: Tensor) -> Gates | list[Gates]:
        logits = self.router.decide(hidden, self._prompt)
        self.logits.append(logits)
        weights = self.router.weigh(logits)
        if self.router.config.settings.per_layer:
            return [self._simplest(layer[:, None]) for layer in weights.unbind(1)]
        return self._simplest(weights[:, None])

    def _decide_tokens(self, number: int, hidden: Tensor) -> Gates:
        reader: _Reader = self.router.readers[number]  # type: ignore[assignment]
        read = reader.read(hidden)
        before = self._most.get(number)
        most = (read if before is None else torch.cat([before, read], 1)).cummax(1).values[:, -read.shape[1] :]
        self._most[number] = most[:, -1:].detach()
        logits = reader.leave(torch.cat([read, most], -1))
        self.logits.append(logits)
        return self._simplest(self.router.weigh(logits))

    def _simplest(self, gates: Tensor) -> Gates:
        """One expert's number where it alone acts on all positions: exact, and an identity then costs nothing."""
        if self.router.config.settings.hardness == "top-1" and not gates.requires_grad:
            winners = gates.argmax(-1)
            first = int(winners.flatten()[0])
            if bool((winners == first).all()):
                return first
        return gates
