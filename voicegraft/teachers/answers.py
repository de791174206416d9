"""LLMs whose answers others learn to give: run here by transformers, or behind any server that speaks as OpenAI's does."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Protocol, cast

import numpy as np
import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message
from voicegraft.data.chat import chat_prompt, encode, filler_id, stop_ids
from voicegraft.fusion.backbone import answer_ends, one_line

_TRIES = 5  # of a request that the server could not answer now
_MOST = 20  # alternatives to a token that OpenAI's interface gives


@dataclass(frozen=True, eq=False)
class Answer:
    """A greedy answer, and what else the LLM might have said."""

    text: str
    ids: list[int]  # [L] its tokens, and the one that ended it
    ended: bool  # False: the limit cut it
    top_ids: np.ndarray | None = None  # [L, k] int32, likeliest first
    top_logprobs: np.ndarray | None = None  # [L, k] float16, natural logarithms over the whole vocabulary


class Answerer(Protocol):
    @property
    def name(self) -> str:
        """Of the model, as rows and cards tell it."""

    def answer(self, prompts: Sequence[Sequence[Message]], max_tokens: int, top_k: int) -> list[Answer]:
        """Answers conversations of text, greedily.

        Raises:
            VoicegraftError: a conversation that the model's template refuses, or a server that does not answer.
        """


class _Top(LogitsProcessor):
    """Keeps the likeliest tokens of every step, and changes nothing."""

    def __init__(self, top_k: int):
        self.top_k = top_k
        self.steps: list[tuple[Tensor, Tensor]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        logprobs, ids = scores.float().log_softmax(-1).topk(min(self.top_k, scores.shape[-1]))
        self.steps.append((ids.int().cpu(), logprobs.half().cpu()))
        return scores


class LocalAnswerer:
    """A backbone of transformers. Prompts run in batches, and what all of a batch begin with is read once."""

    def __init__(self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, batch: int = 32):
        self.backbone, self.tokenizer, self.name, self.batch = backbone, tokenizer, name, batch
        self.stops = sorted(answer_ends(backbone, tokenizer))

    def answer(self, prompts: Sequence[Sequence[Message]], max_tokens: int, top_k: int) -> list[Answer]:
        try:
            ids = [chat_prompt(self.tokenizer, messages) for messages in prompts]
        except TemplateError as error:
            raise VoicegraftError(f"the backbone's chat template does not take a prompt: {one_line(error)}") from error
        order = sorted(range(len(ids)), key=ids.__getitem__)  # those that begin alike together
        answers: dict[int, Answer] = {}
        for at in range(0, len(order), self.batch):
            group = order[at : at + self.batch]
            answers |= zip(group, self._batch([ids[i] for i in group], max_tokens, top_k), strict=True)
        return [answers[i] for i in range(len(ids))]

    @torch.inference_mode()
    def _batch(self, prompts: list[list[int]], max_tokens: int, top_k: int) -> list[Answer]:
        longest, pad = max(map(len, prompts)), filler_id(self.tokenizer)
        columns = zip(
            *(prompt[:-1] for prompt in prompts), strict=False
        )  # down to the shortest, but for its last token
        shared = [column[0] for column in takewhile(lambda column: len({*column}) == 1, columns)]
        begun = len(shared)
        # Padding stands behind what is shared; masked, it is in nobody's way, and positions are counted without it.
        widths = [longest - len(prompt) for prompt in prompts]
        padded = [[*shared, *[pad] * n, *p[begun:]] for p, n in zip(prompts, widths, strict=True)]
        rows = torch.tensor(padded, device=self.backbone.device)
        mask = torch.tensor([[1] * begun + [0] * n + [1] * (longest - begun - n) for n in widths], device=rows.device)
        cache: Any = None
        if begun:
            cache = self.backbone(input_ids=rows[:1, :begun], use_cache=True).past_key_values
            cache.batch_repeat_interleave(len(rows))
        top = _Top(top_k)
        out = cast(Any, self.backbone).generate(
            input_ids=rows,
            attention_mask=mask,
            past_key_values=cache,
            logits_processor=LogitsProcessorList([top] if top_k else []),
            generation_config=GenerationConfig(
                max_new_tokens=max_tokens, do_sample=False, eos_token_id=self.stops or None, pad_token_id=pad
            ),
        )
        top_ids = np.stack([ids.numpy() for ids, _ in top.steps], 1) if top_k else None  # [B, L, k]
        logprobs = np.stack([values.numpy() for _, values in top.steps], 1) if top_k else None
        answers = []
        for row, said in enumerate(out[:, longest:].tolist()):
            end = next((i for i, token in enumerate(said) if token in self.stops), None)
            kept = said if end is None else said[: end + 1]
            text = str(self.tokenizer.decode(kept if end is None else kept[:-1], skip_special_tokens=True))
            tops = [None if of is None else of[row, : len(kept)] for of in (top_ids, logprobs)]
            answers.append(Answer(text.strip(), kept, end is not None, *tops))
        return answers


@dataclass(frozen=True)
class RemoteAnswerer:
    """A server with OpenAI's interface (``/chat/completions``): vLLM, llama.cpp, SGLang, Ollama, a provider.

    Log-probabilities are kept where the server gives them and its tokens are the backbone's.
    """

    url: str  # such as http://localhost:8000/v1
    name: str  # of the model there
    tokenizer: PreTrainedTokenizerBase  # of the backbone that is to learn
    key: str = ""  # name of the environment variable that holds the key; empty: the server wants none
    parallel: int = 8  # requests at a time
    timeout_sec: float = 120.0
    _known: dict[str, int] = field(default_factory=dict)  # text of a token -> its id

    def answer(self, prompts: Sequence[Sequence[Message]], max_tokens: int, top_k: int) -> list[Answer]:
        if top_k and not self._known:
            texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
            # Bytes that are no character alone all read the same: such a token tells nothing.
            self._known.update((text, i) for i, text in reversed(list(enumerate(texts))) if "\ufffd" not in text)
        with ThreadPoolExecutor(self.parallel) as threads:
            return list(threads.map(lambda messages: self._one(messages, max_tokens, top_k), prompts))

    def _one(self, messages: Sequence[Message], max_tokens: int, top_k: int) -> Answer:
        request: dict[str, Any] = {
            "model": self.name,
            "messages": [{"role": m.role, "content": m.text} for m in messages],
            "temperature": 0,
            "max_tokens": max_tokens,
        }
        if top_k:
            request |= {"logprobs": True, "top_logprobs": min(top_k, _MOST)}
        try:
            choice = self._asked(request)["choices"][0]
            text, ended = str(choice["message"]["content"] or ""), choice.get("finish_reason") != "length"
            steps = (choice.get("logprobs") or {}).get("content") or []
        except (LookupError, TypeError, AttributeError) as error:
            raise VoicegraftError(f"{self.url} does not answer as OpenAI's interface does ({error!r})") from error
        ids = encode(self.tokenizer, text.strip())
        ends = stop_ids(self.tokenizer)[-1:] if ended else []
        if top_k and (answer := self._with_logprobs(text, ids, ends, steps, min(top_k, _MOST))):
            return answer
        return Answer(text.strip(), [*ids, *ends], ended)

    def _with_logprobs(
        self, text: str, ids: list[int], ends: list[int], steps: Sequence[Mapping[str, Any]], top_k: int
    ) -> Answer | None:
        """None unless the server's tokens are the backbone's, each with its alternatives."""
        said = [self._known.get(str(step.get("token"))) for step in steps]
        if said == ids and ends:  # most servers tell nothing of the end: it is taken for certain
            steps = [*steps, {"top_logprobs": [{"token": "", "logprob": 0.0}]}]
        elif said != [*ids, *ends]:
            return None
        top_ids = np.full((len(steps), top_k), -1, dtype=np.int32)  # -1: an alternative that is no token here
        logprobs = np.full((len(steps), top_k), -np.inf, dtype=np.float16)
        for row, step in enumerate(steps):
            for column, other in enumerate((step.get("top_logprobs") or [])[:top_k]):
                known = ends[0] if other["token"] == "" and ends else self._known.get(str(other["token"]))
                if known is not None:
                    top_ids[row, column], logprobs[row, column] = known, other["logprob"]
        return Answer(text.strip(), [*ids, *ends], bool(ends), top_ids, logprobs)

    def _asked(self, request: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.key:
            if self.key not in os.environ:
                raise VoicegraftError(
                    f"expected the server's key in the environment variable {self.key}, it is not set"
                )
            headers["Authorization"] = f"Bearer {os.environ[self.key]}"
        for attempt in range(1, _TRIES + 1):
            try:
                asked = urllib.request.Request(
                    f"{self.url.rstrip('/')}/chat/completions", json.dumps(request).encode(), headers
                )
                with urllib.request.urlopen(asked, timeout=self.timeout_sec) as reply:
                    return json.load(reply)
            except urllib.error.HTTPError as error:
                why, later = (
                    f"{error.code} {error.read(300).decode(errors='replace')}",
                    error.code in (429, 502, 503, 504),
                )
            except (OSError, ValueError) as error:
                why, later = str(error), True
            if not later or attempt == _TRIES:
                raise VoicegraftError(f"{self.url} does not answer: {why:.300}; the same command goes on")
            time.sleep(2.0**attempt)
        raise AssertionError
