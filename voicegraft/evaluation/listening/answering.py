"""A text LLM that is asked with something in the place of the audio: words, sound, both or nothing. All are the same code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationConfig

from voicegraft.core.messages import Message, Part
from voicegraft.data.chat import chat_prompt, filler_id, widened
from voicegraft.data.listening_sequences import beside
from voicegraft.evaluation.listening.clips import Spoken
from voicegraft.fusion.backbone import answer_ends
from voicegraft.fusion.listening import embedded
from voicegraft.fusion.mole import Routing
from voicegraft.fusion.text_lm import TextLM

TEXT, CASCADE, NOTHING, WRONG_TEXT = "true text", "cascade", "nothing", "wrong text"
PURE, BESIDE, WRONG_AUDIO = "pure", "beside", "wrong audio"  # of a model that hears
READ = (CASCADE, NOTHING, WRONG_TEXT)
HEARD = (PURE, BESIDE, WRONG_AUDIO)


class Answering(Protocol):
    def write(self, asked: Sequence[Sequence[Message]], max_tokens: int) -> list[list[int]]:
        """The greedy answers to conversations, all with audio or none, each with the token that ends it."""

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
            BESIDE: lambda clip: beside(clip.waveform, self.transcript(clip)),
            WRONG_AUDIO: lambda clip: (self.others[clip.corpus, clip.id].waveform,),
        }
        return places[name]


class LmAnswering:
    """A text LLM of transformers, with or without what it hears with; conversations with audio go to its listening expert."""

    def __init__(self, lm: TextLM) -> None:
        self.lm = lm
        self.stops = sorted(answer_ends(lm.backbone, lm.tokenizer))

    @torch.inference_mode()
    def write(self, asked: Sequence[Sequence[Message]], max_tokens: int) -> list[list[int]]:
        prompts, gates = zip(*map(self._prompt, asked), strict=True)
        longest = max(prompt.shape[1] for prompt in prompts)
        # On the left, where nothing is looked at.
        padded = [F.pad(prompt, (0, 0, longest - prompt.shape[1], 0)) for prompt in prompts]
        inside = [F.pad(torch.ones(1, p.shape[1], dtype=torch.long), (longest - p.shape[1], 0)) for p in prompts]
        with self.lm.mole.gated(gates[0]):
            out = cast(Any, self.lm.backbone).generate(
                inputs_embeds=torch.cat(padded),
                attention_mask=torch.cat(inside).to(padded[0].device),
                generation_config=GenerationConfig(
                    max_new_tokens=max_tokens,
                    do_sample=False,
                    eos_token_id=self.stops or None,
                    pad_token_id=filler_id(self.lm.tokenizer),
                ),
            )
        return [self._ended(said) for said in out.tolist()]

    def _ended(self, said: list[int]) -> list[int]:
        end = next((place for place, token in enumerate(said) if token in self.stops), None)
        return said if end is None else said[: end + 1]

    @torch.inference_mode()
    def log_probs(self, messages: Sequence[Message], said: Sequence[int]) -> Tensor:
        prompt, gates = self._prompt(messages)
        before = torch.tensor([list(said[:-1])], dtype=torch.long, device=prompt.device)
        given = torch.cat([prompt, self.lm.embed_text(before)], dim=1)
        with self.lm.mole.gated(gates):
            logits = self.lm.backbone(inputs_embeds=given, use_cache=False, logits_to_keep=len(said)).logits
        return cast(Tensor, logits[0].float().log_softmax(-1))

    def decode(self, said: Sequence[int]) -> str:
        return str(self.lm.tokenizer.decode(list(said), skip_special_tokens=True)).strip()

    def _prompt(self, messages: Sequence[Message]) -> tuple[Tensor, str | Tensor | Routing]:
        """Embeddings ``[1, L, D]``, and which expert acts."""
        sounds = [waveform for message in messages for waveform in message.waveforms]
        heard = self.lm.hearing.listen(sounds) if self.lm.hearing is not None else []
        ids = widened(chat_prompt(self.lm.tokenizer, messages), [len(vectors) for vectors in heard])
        rows = torch.tensor([ids], device=self.lm.backbone.device)
        return embedded(self.lm.backbone, rows, heard), self.lm.writing(hears=bool(sounds))
