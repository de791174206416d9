"""The fused model: a frozen text LLM, a text expert, a speech expert with its rows, and the router that chooses.

``text_logits`` is the untouched backbone, bit for bit, where the text expert is the identity: experts stand beside its weights
and the text embedding and softmax were never changed. ``hidden`` runs the backbone on embeddings to speak, which are the
backbone's own for text positions and the speech rows' for speech positions; ``SpeechRows.head`` then scores the speech
vocabulary only. Rows are float32 whatever the backbone computes in: what enters it takes its type.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedTokenizerBase

from voicegraft.core.artifacts import load_artifact
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.chat import encode, sentence_ids
from voicegraft.fusion.backbone import BackboneSettings, load_backbone
from voicegraft.fusion.decoders.folded import StepDecoder
from voicegraft.fusion.experts import SPEECH, TEXT, Belongs, Expert
from voicegraft.fusion.mole import MoLE, Routing
from voicegraft.fusion.router import Router
from voicegraft.fusion.speech_embedding import RowsConfig, SpeechRows
from voicegraft.tokenizers.vocabulary import SpeechVocabulary

_MERGED = 4  # mixtures whose merged copies are kept


@dataclass
class LmState:
    """One sequence that is being spoken: its cache, and the gates that hold for it."""

    cache: Any
    gates: str | Tensor | Routing
    decoder: StepDecoder | None = None  # of these gates; then the cache is this decoder's


class SpeechLM(nn.Module):
    def __init__(self, mole: MoLE, tokenizer: PreTrainedTokenizerBase, rows: SpeechRows, router: Router | None = None):
        """
        Args:
            mole: with the experts "text" and "speech"; there may be more.
            router: None lets the task choose its expert (the oracle gate).
        """
        super().__init__()
        self.mole = mole
        self.backbone = mole.backbone
        self.tokenizer = tokenizer
        self.rows = rows
        self.router = router
        self.fixed: str | Tensor | None = None  # gates for everything, whatever router and task say; for comparisons
        self._fast = False
        self._decoders: dict[str, StepDecoder] = {}

    @property
    def vocabulary(self) -> SpeechVocabulary:
        return self.rows.config.vocabulary

    @property
    def merges(self) -> bool:
        """Whether positions can be taken back: decoding runs on merged copies."""
        return self._fast and not self._routes_tokens

    def text_logits(self, input_ids: Tensor, **kwargs: Any) -> Tensor:
        """Text ids ``[B, T]`` -> the text expert's logits ``[B, T, V]``; of the identity: the untouched backbone's."""
        with self.mole.gated(TEXT):
            return self.backbone(input_ids=input_ids, **kwargs).logits

    def writing(self) -> str | Tensor | Routing:
        """The gates for one batch of texts to be continued, for ``mole.gated``."""
        if self.fixed is not None:
            return self.fixed
        return TEXT if self.router is None else self.router.start()

    def text_ids(self, text: str) -> list[int]:
        """The text as the speech expert reads it: the backbone's begin token, if it has one, and the backbone's tokens."""
        return sentence_ids(self.tokenizer, text)

    def word_ids(self, written: str) -> list[int]:
        """A word, or any other piece of text, in the backbone's tokens."""
        return encode(self.tokenizer, written)

    def embed_text(self, ids: Tensor) -> Tensor:
        """Text ids ``[B, T]`` -> the backbone's embeddings ``[B, T, D]``."""
        return self.backbone.get_input_embeddings()(ids)

    def begin(self, text: Tensor, marker: Tensor) -> LmState:
        """Begins a sequence to be spoken: one stream, one state. The prompt is the segment that the router sees.

        Args:
            text: embeddings ``[1, T, D]`` of the sentence in its context.
            marker: embedding ``[1, 1, D]`` of the voice; from here on the speech expert acts, or, if it was trained on whole
                sequences (``RowsConfig.activated``), from the beginning.
        """
        prompt = torch.cat([text, marker], 1)
        state = self._start(prompt)
        if self.rows.config.activated and not self._routes_tokens:
            self._run(text, state, TEXT)
            self.hidden(marker, state)
        else:
            self.hidden(prompt, state)
        return state

    def hidden(self, embeddings: Tensor, state: LmState | None = None) -> Tensor:
        """Embeddings ``[B, T, D]`` -> last hidden states ``[B, T, D]``, in the backbone's type; a state is extended.

        Without a state the speech expert acts everywhere, on a batch of whole sequences.
        """
        if state is None:
            with self.mole.gated(SPEECH):
                embeddings = embeddings.to(self.backbone.dtype)
                return self.backbone.base_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        return self._run(embeddings, state, state.gates)

    def take_back(self, state: LmState, num_positions: int) -> None:
        """Removes the last positions, where ``merges``."""
        state.cache.length -= num_positions

    def merge_for_speed(self) -> None:
        """From here on, sequences whose gates stay the same run on copies of the backbone with the experts folded in.

        For small models: every mixture is a copy of the weights. The backbone itself stays as it is. Architectures without such
        a layout (see ``StepDecoder.supports``) go on through transformers.
        """
        self._fast = StepDecoder.supports(self.backbone.base_model)
        if self._fast:
            self.merged_decoder(SPEECH)

    def _start(self, prompt: Tensor) -> LmState:
        gates: str | Tensor | Routing
        if self.fixed is not None:
            gates = self.fixed
        elif self.router is None:
            gates = SPEECH
        elif self._routes_tokens:
            return LmState(DynamicCache(), self.router.start())
        else:
            gates = self.router.segment_gates(prompt)
        if not self._fast:
            return LmState(DynamicCache(), gates if isinstance(gates, str) else _every_layer(gates))
        decoder = self.merged_decoder(gates)
        return LmState(decoder.start(), gates, decoder)

    def _run(self, embeddings: Tensor, state: LmState, gates: str | Tensor | Routing) -> Tensor:
        if state.decoder is not None:
            decoder = state.decoder if gates is state.gates else self.merged_decoder(gates)  # type: ignore[arg-type]
            return decoder(embeddings, state.cache)
        with self.mole.gated(gates):
            inner = self.backbone.base_model
            embeddings = embeddings.to(self.backbone.dtype)
            return inner(inputs_embeds=embeddings, past_key_values=state.cache, use_cache=True).last_hidden_state

    def merged_decoder(self, gates: str | Tensor) -> StepDecoder:
        """A copy of the backbone with the experts folded in at gates ``[E]`` or ``[num_layers, E]``, or of one expert."""
        key = gates if isinstance(gates, str) else str([round(g, 3) for g in gates.flatten().tolist()])
        if key not in self._decoders:
            mixtures = [k for k in self._decoders if k not in self.mole.names]
            if len(mixtures) >= _MERGED:  # the oldest goes; experts alone stay
                del self._decoders[mixtures[0]]
            self._decoders[key] = StepDecoder(self.backbone.base_model, self.mole.merged(gates))
        return self._decoders[key]

    @property
    def _routes_tokens(self) -> bool:
        routed = self.router is not None and self.fixed is None
        return routed and self.router.config.settings.granularity == "token"  # type: ignore[union-attr]

    @staticmethod
    def load(
        backbone_folder: str | Path,
        expert_folder: Path,
        router_folder: Path | None = None,
        text_expert: Path | None = None,
        settings: BackboneSettings | None = None,
    ) -> SpeechLM:
        """Loads a backbone and fuses experts with it.

        Args:
            backbone_folder: or its name on the Hub.
            expert_folder: with ``speech/`` and ``rows/``.
            text_expert: PEFT's adapter folder; None is the identity.
            router_folder: None lets the task choose.
            settings: of the backbone; float32 if not given.

        Raises:
            VoicegraftError: something was trained for another backbone, is damaged, or does not fit the rest.
        """
        backbone, tokenizer = load_backbone(backbone_folder, settings)
        belongs = Belongs.to(backbone, tokenizer)
        artifact = load_artifact(expert_folder / "rows", "speech-rows", RowsConfig)
        if artifact.config.backbone != belongs.backbone:
            raise VoicegraftError(
                f"the speech expert in {expert_folder} was trained on backbone {artifact.config.backbone}, but "
                f"{backbone_folder} is {belongs.backbone}: use the backbone it was trained on, or train an expert for this one"
            )
        rows = SpeechRows(artifact.config)
        rows.load_state_dict(artifact.tensors)
        experts = {
            TEXT: None if text_expert is None else Expert.load(text_expert, belongs),
            SPEECH: Expert.load(expert_folder / SPEECH, belongs),
        }
        mole = MoLE(backbone, experts)
        router = None if router_folder is None else Router.load(router_folder, mole, belongs.backbone)
        return SpeechLM(mole, tokenizer, rows, router).eval().requires_grad_(False)


def _every_layer(gates: Tensor) -> Tensor | Routing:
    """Weights ``[E]`` as they are, ``[num_layers, E]`` as a routing."""
    return gates if gates.ndim == 1 else FixedRouting(gates)


@dataclass(frozen=True)
class FixedRouting:
    """Gates ``[num_layers, E]`` that stay the same at all positions."""

    gates: Tensor

    def at(self, layer: int, hidden: Tensor) -> Tensor:
        return self.gates[layer]
