"""What ``bench_fusion`` compares: one position after another, by different engines over the same weights and adapters."""

from __future__ import annotations

import copy
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel, XLoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from voicegraft.fusion.backbone import load_backbone
from voicegraft.fusion.decoders.folded import FoldedModel
from voicegraft.fusion.experts import ADAPTER_WEIGHTS, Expert, LoraSettings, attach_lora
from voicegraft.fusion.mole import MoLE, Routing
from voicegraft.fusion.router import Router, RouterConfig, RouterSettings

Step = Callable[[Tensor], Tensor]  # next ids [B, T] -> logits [B, T, V]
Engine = Callable[[], Step]  # begins a batch of sequences

EXPERTS = ("first", "second")
GATES = torch.tensor([0.4, 0.6])  # of both experts, where the mixture stays the same


@dataclass(frozen=True)
class Proportions:
    """A random Llama, as wide against its experts as Llama-3-8B is against rank 128: half of every width, fewer layers.

    Two experts then hold 9 % of the weights, and so has the vocabulary its share of them.
    """

    width: int = 2048
    mlp_width: int = 7168
    num_layers: int = 4
    num_heads: int = 16
    num_kv_heads: int = 4
    vocab_size: int = 8192
    rank: int = 64


@dataclass(frozen=True)
class Case:
    """One backbone with two adapters; every engine shares the backbone's tensors, so none has them nearer."""

    bare: PreTrainedModel
    adapters: tuple[Path, Path]  # PEFT's folders

    def copy(self) -> PreTrainedModel:
        """Modules of its own around the same weights."""
        return copy.deepcopy(self.bare, {id(p): p for p in self.bare.parameters()})

    @property
    def added_bytes(self) -> float:
        """Weights of both adapters, relative to those that a step of the backbone reads."""
        loras = [Expert.load(folder).layers.values() for folder in self.adapters]
        added = sum(e.down.numel() + e.up.numel() for layers in loras for e in layers)
        embedding = self.bare.get_input_embeddings()
        tied = embedding.weight is self.bare.get_output_embeddings().weight
        own = sum(p.numel() for p in self.bare.parameters())
        return added / (own if tied else own - cast(nn.Embedding, embedding).weight.numel())


def pack_case(backbone: Path, adapter: Path, folder: Path) -> Case:
    """A pack's backbone and speech adapter; the second adapter, written into ``folder``, is the first with noise."""
    other = folder / "second"
    shutil.copytree(adapter, other)
    random = torch.Generator().manual_seed(0)
    weights = {name: tensor.float() for name, tensor in load_file(adapter / ADAPTER_WEIGHTS).items()}
    noisy = {n: t + 0.2 * t.std() * torch.randn(t.shape, generator=random) for n, t in weights.items()}
    (other / ADAPTER_WEIGHTS).chmod(0o644)
    save_file(noisy, other / ADAPTER_WEIGHTS)
    return Case(load_backbone(backbone)[0], (adapter, other))


def random_case(sizes: Proportions, folder: Path) -> Case:
    """A random backbone, and two random adapters that PEFT writes into ``folder``."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.width,
        intermediate_size=sizes.mlp_width,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        num_key_value_heads=sizes.num_kv_heads,
        tie_word_embeddings=False,
    )
    case = Case(LlamaForCausalLM(config).eval(), (folder / EXPERTS[0], folder / EXPERTS[1]))
    for name in EXPERTS:
        model = attach_lora(case.copy(), LoraSettings(sizes.rank, sizes.rank), name)
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if ".lora_" in parameter_name:
                    parameter.normal_(std=0.3 * parameter.shape[1] ** -0.5)
        model.save_pretrained(str(folder))
    return case


class DecodeEngines:
    """The engines of a case that decode with a cache."""

    def __init__(self, case: Case):
        self.case = case
        experts: dict[str, Expert | None] = {n: Expert.load(f) for n, f in zip(EXPERTS, case.adapters, strict=True)}
        self.both = MoLE(case.copy(), experts)
        # As a voice pack ships: text is the untouched backbone's.
        self.shipped = MoLE(case.copy(), {"text": None, "speech": experts[EXPERTS[0]]})
        self.choosing = self._router(self.shipped, RouterSettings(granularity="segment", hardness="top-1"), favour=0)
        self.mixing = self._router(self.both, RouterSettings(granularity="token", hardness="soft"))

    def through_transformers(self) -> dict[str, Engine]:
        case, both, shipped = self.case, self.both, self.shipped
        return {
            "backbone": lambda: cached(case.bare),
            "text, identity": lambda: fused(shipped, "text"),
            "text, identity, chosen by a router": lambda: fused(shipped, self.choosing.start()),
            "speech alone": lambda: fused(shipped, "speech"),
            "both, the same gates everywhere": lambda: fused(both, GATES),
            "both, a learned gate for every token": lambda: fused(both, self.mixing.start()),
        }

    def by_step_decoder(self) -> dict[str, Engine]:
        """One stream at a time; the mixture is folded into a copy of the weights."""
        head = cast(nn.Module, self.case.bare.get_output_embeddings())
        bare = FoldedModel(self.case.bare.base_model)
        return {"backbone": lambda: merged(bare, self.both, head), "both, folded in": self._folded(head)}

    def fold(self) -> FoldedModel:
        return FoldedModel(self.both.backbone.base_model, self.both.merged(GATES))

    def _folded(self, head: nn.Module) -> Engine:
        decoder = self.fold()
        return lambda: merged(decoder, self.both, head)

    def _router(self, mole: MoLE, settings: RouterSettings, favour: int | None = None) -> Router:
        torch.manual_seed(0)
        width = self.case.bare.config.hidden_size
        router = Router(RouterConfig(mole.names, width, mole.num_layers, "", settings))
        if favour is not None:
            with torch.no_grad():
                router.readers[0].leave.bias[favour] = 100.0  # type: ignore[union-attr, operator]
        return router.eval()


def cached(model: Any, cache: Any = None) -> Step:
    state = DynamicCache(config=model.config) if cache is None else cache
    return lambda ids: model(input_ids=ids, past_key_values=state, use_cache=True).logits


def fused(mole: MoLE, gates: str | Tensor | Routing) -> Step:
    run = cached(mole.backbone)

    def step(ids: Tensor) -> Tensor:
        with mole.gated(gates):
            return run(ids)

    return step


def merged(decoder: FoldedModel, mole: MoLE, head: nn.Module) -> Step:
    state = decoder.start()
    embed = mole.backbone.get_input_embeddings()
    return lambda ids: head(decoder([embed(ids)[0]], [state])[0][None])


def xlora(case: Case) -> PeftModel:
    """PEFT's X-LoRA over the two adapters; its classifier costs what it always does and answers ``GATES`` at every token."""
    backbone = case.copy()
    backbone.config.use_cache = False  # X-LoRA refuses to be built otherwise
    config = XLoraConfig(
        task_type="CAUSAL_LM",
        hidden_size=backbone.config.hidden_size,
        adapters={str(i): str(folder) for i, folder in enumerate(case.adapters)},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = cast(PeftModel, get_peft_model(backbone, config)).eval()
    with torch.no_grad():
        classifier: Any = model.base_model.internal_xlora_classifier
        last = classifier.layers[-1]
        last.weight.zero_()
        last.bias.copy_(GATES.log())
    return model


def recomputed(model: PeftModel) -> Step:
    """X-LoRA as PEFT generates with it: no cache, the whole sequence twice for every token."""
    seen: list[Tensor] = []

    def step(ids: Tensor) -> Tensor:
        seen.append(ids)
        return model(input_ids=torch.cat(seen, 1), use_cache=False).logits[:, -ids.shape[1] :]

    return step


class TwoPasses(DynamicCache):
    """Two caches for X-LoRA's two passes, in turns; with one cache both passes write into it, and every token stands there
    twice. PEFT has nothing like it: this is X-LoRA at its best, not as it is."""

    def __init__(self, config: Any):
        super().__init__(config=config)
        self.passes = [DynamicCache(config=config) for _ in range(2)]
        self.last = 1

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        if layer_idx == 0:
            self.last = 1 - self.last
        return self.passes[self.last].update(key_states, value_states, layer_idx, *args, **kwargs)

    # Asked before a pass begins, so of the other one.
    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.passes[1 - self.last].get_seq_length(layer_idx)

    def get_mask_sizes(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        return self.passes[1 - self.last].get_mask_sizes(*args, **kwargs)
