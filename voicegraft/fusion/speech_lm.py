"""The fused model: a frozen text LLM, a text expert, a speech expert with its embedding, and the router that chooses.

``text_logits`` is the untouched backbone, bit for bit, where the text expert is the identity: experts stand beside its weights
and the text embedding and softmax were never changed. ``hidden`` runs the backbone on embeddings to speak, which are the
backbone's own for text positions and the speech embedding's for speech positions; its LM head then scores the speech
vocabulary only. Both are float32 whatever the backbone computes in: what enters it takes its type.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from voicegraft.core.artifacts import described_by, load_artifact
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.chat import encode, sentence_ids
from voicegraft.data.layouts import MAX_ELAPSED, Feed, Position
from voicegraft.data.lexicon import Lexicon
from voicegraft.fusion.backbone import BackboneSettings, load_backbone
from voicegraft.fusion.decoders.base import Decoder, SequenceGates
from voicegraft.fusion.decoders.choice import open_decoder
from voicegraft.fusion.depth import lower_layers
from voicegraft.fusion.experts import LISTENING, SPEECH, TEXT, Belongs, Expert, trained_on
from voicegraft.fusion.listening import Hearing
from voicegraft.fusion.mole import MoLE
from voicegraft.fusion.router import Router
from voicegraft.fusion.sketch import Sketch
from voicegraft.fusion.speech_embedding import ROWS, ROWS_KIND, SpeechEmbedding, SpeechEmbeddingConfig
from voicegraft.fusion.text_lm import TextLM
from voicegraft.tokenizers.vocabulary import SpeechVocabulary

_log = logging.getLogger(__name__)
LEXICON = "lexicon.txt.gz"  # beside an expert that spells unknown words alone
_AT_ONCE = 8  # phones or frames whose position features are worked out together
_KEPT_TABLES = 16  # of position features, that are kept with a sequence


@dataclass
class SpeechState:
    """What is kept of one sequence that is being spoken."""

    decoding: Any  # the decoder's state
    hidden: Tensor | None = None  # [1, D] that the last logits came from
    # Position features [_AT_ONCE, D] of the units, letters and phones or frames // _AT_ONCE that came last.
    features: dict[tuple[Sequence[int], Sequence[int], int], Tensor] = field(default_factory=dict)


class SpeechLM(TextLM):
    def __init__(
        self,
        mole: MoLE,
        tokenizer: PreTrainedTokenizerBase,
        speech_embedding: SpeechEmbedding,
        router: Router | None = None,
        hearing: Hearing | None = None,
        lexicon: Lexicon | None = None,
    ):
        """
        Args:
            lexicon: where pronunciations are looked up before anything is spelt.
            mole: with the experts "text" and "speech", and "listening" where it hears; there may be more.
            router: None lets the task choose its expert (the oracle gate).
        """
        super().__init__(mole, tokenizer, router, hearing)
        self.speech_embedding, self.lexicon = speech_embedding, lexicon

    @cached_property
    def decoder(self) -> Decoder:
        """What speaking runs on: opened when it is needed first, on the device where the model is by then."""
        return open_decoder(self.mole, self._routes_tokens, self.speech_embedding.config.num_layers)

    @cached_property
    def inner(self) -> Any:
        """The layers of the backbone that speech passes."""
        return lower_layers(self.backbone, self.speech_embedding.config.num_layers)

    @property
    def vocabulary(self) -> SpeechVocabulary:
        return self.speech_embedding.config.vocabulary

    def text_ids(self, text: str) -> list[int]:
        """The text as the speech expert reads it: the backbone's begin token, if it has one, and the backbone's tokens."""
        return sentence_ids(self.tokenizer, text)

    def word_ids(self, written: str) -> list[int]:
        """A word, or any other piece of text, in the backbone's tokens."""
        return encode(self.tokenizer, written)

    def speaking(self, prompt: Tensor) -> SequenceGates:
        """The gates for a sequence to be spoken, whose prompt, the segment that the router sees, is ``[1, T, D]``."""
        if self.fixed is not None:
            return self.fixed
        if self.router is None:
            return SPEECH
        return self.router.start() if self._routes_tokens else self.router.segment_gates(prompt)

    def begin(self, text: Tensor, marker: Tensor) -> Any:
        """Begins a sequence to be spoken: returns the decoder's state after its prompt.

        Args:
            text: embeddings ``[1, T, D]`` of the sentence in its context.
            marker: embedding ``[1, 1, D]`` of the voice; from here on the speech expert acts, or, if it was trained on whole
                sequences (``SpeechEmbeddingConfig.activated``), from the beginning.
        """
        prompt = torch.cat([text, marker], 1)
        state = self.decoder.start(self.speaking(prompt))
        if self.speech_embedding.config.activated and not self._routes_tokens:
            self.decoder.step([text[0]], [state], TEXT)
            prompt = marker
        self.decoder.step([prompt[0]], [state])
        return state

    def hidden(self, embeddings: Tensor, state: Any = None) -> Tensor:
        """Embeddings ``[B, T, D]`` -> last hidden states ``[B, T, D]``, in the backbone's type.

        Without a state the speech expert acts everywhere, on a batch of whole sequences; one sequence's state is extended.
        """
        if state is not None:
            return self.decoder.step([embeddings[0]], [state])[0][None]
        with self.mole.gated(SPEECH):
            return self.inner(inputs_embeds=embeddings.to(self.backbone.dtype), use_cache=False).last_hidden_state

    # For the engine: positions in, logits out, in arrays.

    @torch.inference_mode()
    def start(self, prompt: Sequence[Position]) -> SpeechState:
        """Reads the prompt of a sentence, which ends with the voice's marker."""
        state = SpeechState(None)
        (embedded,) = self._embedded([state], [prompt])
        state.decoding = self.begin(embedded[None, :-1], embedded[None, -1:])
        return state

    @torch.inference_mode()
    def advance(self, states: Sequence[SpeechState], feeds: Sequence[Feed]) -> list[np.ndarray]:
        """One step of many sequences -> the logits after each one's positions ``[1, V]``; two rows where it was read ahead."""
        read = []
        for state, feed in zip(states, feeds, strict=True):
            if feed.crop:
                self.decoder.crop(state.decoding, feed.crop)
            read.append([*feed.positions, *(feed.ahead if state.decoding.crops else ())])
        found = self.decoder.step(self._embedded(states, read), [state.decoding for state in states])
        wanted = []
        for state, feed, hidden in zip(states, feeds, found, strict=True):
            own = len(feed.positions)
            state.hidden = hidden[own - 1 : own]
            wanted.append(state.hidden if len(hidden) == own else torch.cat([state.hidden, hidden[-1:]]))
        return self._logits(wanted)

    @torch.inference_mode()
    def follow(self, states: Sequence[SpeechState], tokens: Sequence[int]) -> list[np.ndarray]:
        """The tokens that were just drawn -> the logits of the next tokens of their groups, each ``[1, V]``."""
        drawn = torch.tensor(tokens, device=self.speech_embedding.token.weight.device)
        hidden = self.speech_embedding.after(torch.cat([state.hidden for state in states]), drawn)  # type: ignore[misc]
        for state, row in zip(states, hidden.split(1), strict=True):
            state.hidden = row
        return self._logits(hidden.split(1))

    def _logits(self, hidden: Sequence[Tensor]) -> list[np.ndarray]:
        """In one product, on the CPU."""
        logits = self.speech_embedding.logits(torch.cat(list(hidden))).cpu().numpy()
        return np.split(logits, np.cumsum([len(rows) for rows in hidden])[:-1])

    def _embedded(self, states: Sequence[SpeechState], read: Sequence[Sequence[Position]]) -> list[Tensor]:
        """The embeddings ``[T, D]`` of each sequence's positions, as training makes them (``SpeechEmbedding.inputs``)."""
        positions = [position for each in read for position in each]
        device, size = self.speech_embedding.token.weight.device, self.speech_embedding.config.frames_per_step
        tokens = [[*p.tokens, *[-1] * (size - len(p.tokens))] for p in positions]
        ids = torch.tensor(tokens, device=device)
        text = None
        if any(p.text >= 0 for p in positions):
            text = self.embed_text(torch.tensor([max(0, p.text) for p in positions], device=device))
        features = self._features(states, read) if self.speech_embedding.config.layout == "guided" else None
        embedded = self.speech_embedding.inputs({"token": ids[:, 0], "more": ids[:, 1:]}, text, features).to(
            self.backbone.dtype
        )
        return list(embedded.split([len(each) for each in read]))

    def _features(self, states: Sequence[SpeechState], read: Sequence[Sequence[Position]]) -> Tensor:
        """Position features ``[T, D]``; what the next phones or frames will ask for is worked out with what is, and kept."""
        asked = [
            (state, p, (p.units, p.letters, p.elapsed // _AT_ONCE))
            for state, own in zip(states, read, strict=True)
            for p in own
        ]
        for state in states:
            if len(state.features) > _KEPT_TABLES:
                state.features.clear()
        new = {(id(state), key): (state, p, key) for state, p, key in asked if key not in state.features}
        if new:
            device = self.speech_embedding.token.weight.device
            positions = [p for _, p, _ in new.values()]
            voice, units, letters = (
                torch.tensor([getattr(p, name) for p in positions], device=device)[:, None]
                for name in ("voice", "units", "letters")
            )
            first = torch.tensor([key[2] * _AT_ONCE for _, _, key in new.values()], device=device)[:, None]
            elapsed = (first + torch.arange(_AT_ONCE, device=device)).clamp(max=MAX_ELAPSED)
            tables = self.speech_embedding.position_features(voice, units, elapsed, letters)  # [N, _AT_ONCE, D]
            for (state, _, key), table in zip(new.values(), tables, strict=True):
                state.features[key] = table
        return torch.stack([state.features[key][p.elapsed % _AT_ONCE] for state, p, key in asked])

    @property
    def _routes_tokens(self) -> bool:
        routed = self.router is not None and self.fixed is None
        return routed and self.router.config.settings.granularity == "token"  # type: ignore[union-attr]

    @staticmethod
    def load(  # type: ignore[override]
        backbone_folder: str | Path,
        expert_folder: Path,
        router_folder: Path | None = None,
        text_expert: Path | None = None,
        settings: BackboneSettings | None = None,
        listening: Path | None = None,
    ) -> SpeechLM:
        """Loads a backbone and fuses experts with it.

        Args:
            backbone_folder: or its name on the Hub.
            expert_folder: with ``speech/`` and ``rows/``, and the lexicon of an expert that has one.
            text_expert: PEFT's adapter folder; None is the identity.
            router_folder: None lets the task choose.
            settings: of the backbone; float32 if not given.
            listening: a listening pack.

        Raises:
            VoicegraftError: something was trained for another backbone, is damaged, or does not fit the rest.
        """
        backbone, tokenizer = load_backbone(backbone_folder, settings)
        belongs = Belongs.to(backbone, tokenizer)
        artifact = load_artifact(expert_folder / ROWS, ROWS_KIND, SpeechEmbeddingConfig)
        speaks = belongs  # what the pack's own parts were trained for
        if artifact.config.backbone != belongs.backbone:
            sketch = Sketch.load(expert_folder)
            problem = "" if sketch is None else sketch.problem(Sketch.of(backbone))
            if sketch is None or problem:
                raise VoicegraftError(
                    f"the speech expert in {expert_folder} was trained on backbone {artifact.config.backbone}, but "
                    f"{backbone_folder} is {belongs.backbone}{problem and ': '}{problem}; use the backbone it was trained "
                    "on, or train an expert for this one"
                )
            _log.warning("%s is the backbone of this pack in another precision, or hardly changed", backbone_folder)
            speaks = replace(belongs, backbone=artifact.config.backbone)
        with described_by(expert_folder / ROWS):
            speech_embedding = SpeechEmbedding(artifact.config)
            speech_embedding.load_state_dict(artifact.tensors)
        writes: Expert | None = None
        if text_expert is not None:  # trained on the one precision or on the other
            same = trained_on(text_expert) == speaks.backbone
            writes = Expert.load(text_expert, speaks if same else belongs)
        experts = {
            TEXT: writes,
            SPEECH: Expert.load(expert_folder / SPEECH, speaks),
        }
        hearing = None
        if listening is not None:
            experts[LISTENING] = Hearing.expert(listening, belongs)
            hearing = Hearing.load(listening, backbone, tokenizer, belongs.backbone)
        mole = MoLE(backbone, experts)
        router = None if router_folder is None else Router.load(router_folder, mole, speaks.backbone)
        lexicon = Lexicon.load(expert_folder / LEXICON) if artifact.config.spells == "unknown" else None
        return SpeechLM(mole, tokenizer, speech_embedding, router, hearing, lexicon).eval().requires_grad_(False)
