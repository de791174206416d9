"""A text LLM that is asked with something in the place of the audio: words, sound, both or nothing. All are the same code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.core.messages import Message, Part
from voicegraft.data.chat import chat_prompt, filler_id, stop_ids
from voicegraft.evaluation.listening.clips import Spoken

TEXT, CASCADE, NOTHING, WRONG_TEXT = "true text", "cascade", "nothing", "wrong text"
PURE, BESIDE, WRONG_AUDIO = "pure", "beside", "wrong audio"  # of a model that hears


class Answering(Protocol):
    def write(self, messages: Sequence[Message], max_tokens: int) -> list[int]:
        """The greedy answer, the token that ends it included."""

    def log_probs(self, messages: Sequence[Message], said: Sequence[int]) -> Tensor:
        """Log-probabilities ``[L, V]`` of the tokens of an answer, each after those before it."""

    def decode(self, said: Sequence[int]) -> str:
        """The text of an answer."""


Place = Callable[[Spoken], tuple[Part, ...]]  # what stands where the audio is asked for


@dataclass(frozen=True)
class Places:
    """What may stand there, by name; the transcript is what the cascade hears."""

    transcript: Callable[[Spoken], str]
    others: Mapping[tuple[str, str], Spoken]  # (corpus, id) -> a clip that says something else

    def of(self, name: str) -> Place:
        places: dict[str, Place] = {
            TEXT: lambda clip: (clip.text,),
            CASCADE: lambda clip: (self.transcript(clip),),
            NOTHING: lambda clip: (),
            WRONG_TEXT: lambda clip: (self.others[clip.corpus, clip.id].text,),
            PURE: lambda clip: (clip.waveform,),
            BESIDE: lambda clip: (clip.waveform, "\n" + self.transcript(clip)),
            WRONG_AUDIO: lambda clip: (self.others[clip.corpus, clip.id].waveform,),
        }
        return places[name]


class TextAnswering:
    """A backbone that reads; transformers runs it."""

    def __init__(self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.backbone, self.tokenizer = backbone, tokenizer
        self.stops = stop_ids(tokenizer)

    @torch.inference_mode()
    def write(self, messages: Sequence[Message], max_tokens: int) -> list[int]:
        embedded = self._embedded(messages)
        out = cast(Any, self.backbone).generate(
            inputs_embeds=embedded,
            attention_mask=torch.ones(embedded.shape[:2], dtype=torch.long, device=embedded.device),
            generation_config=GenerationConfig(
                max_new_tokens=max_tokens,
                do_sample=False,
                eos_token_id=self.stops or None,
                pad_token_id=filler_id(self.tokenizer),
            ),
        )
        return [int(token) for token in out[0]]

    @torch.inference_mode()
    def log_probs(self, messages: Sequence[Message], said: Sequence[int]) -> Tensor:
        rows = torch.tensor([list(said[:-1])], dtype=torch.long, device=self.backbone.device)
        answer = self.backbone.get_input_embeddings()(rows)
        embedded = torch.cat([self._embedded(messages), answer], dim=1)
        logits = self.backbone(inputs_embeds=embedded, use_cache=False, logits_to_keep=len(said)).logits
        return cast(Tensor, logits[0].float().log_softmax(-1))

    def decode(self, said: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(said), skip_special_tokens=True)).strip()

    def _embedded(self, messages: Sequence[Message]) -> Tensor:
        """``[1, L, D]``."""
        ids = torch.tensor([chat_prompt(self.tokenizer, messages)], device=self.backbone.device)
        return cast(Tensor, self.backbone.get_input_embeddings()(ids))
