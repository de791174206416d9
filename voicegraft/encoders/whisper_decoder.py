"""Whisper's own decoder over what its encoder heard: English, without timestamps (arXiv 2212.04356)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModel

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import resolve
from voicegraft.encoders.hub_models import load_pretrained

WANTED = "recogniser"  # in errors
_END = "<|endoftext|>"
_BEGIN, _ENGLISH, _PLAIN = "<|startoftranscript|>", ("<|en|>", "<|transcribe|>"), "<|notimestamps|>"
_MULTILINGUAL = 51865  # tokens at least, of a vocabulary with languages
_LOOP_TOKENS, _LOOP_TIMES = 12, 3  # a loop is at least so long, and says the same so often
_SMOOTHED = 7  # frames of the median filter, as OpenAI's word times have it


class Written(NamedTuple):
    text: str
    states: Tensor  # [N, W], the last hidden state that chose each token
    tokens: list[int]
    log_prob: float  # mean over the tokens and their end


class WhisperDecoder(nn.Module):
    """Writes what was said, with the states it wrote it from; or tells which frames a known text looked at."""

    def __init__(self, model: Any, tokenizer: Tokenizer, heads: Sequence[tuple[int, int]]) -> None:
        """
        Args:
            model: transformers' decoder.
            heads: (layer, head) of those whose attention follows the sound in time.
        """
        super().__init__()
        languages = _ENGLISH if model.config.vocab_size >= _MULTILINGUAL else ()
        known = {name: tokenizer.token_to_id(name) for name in (_BEGIN, *languages, _PLAIN, _END)}
        ids = [number for number in known.values() if number is not None]
        if len(ids) < len(known):
            missing = next(name for name, number in known.items() if number is None)
            raise VoicegraftError(f"the recogniser's tokenizer.json does not know {missing}; get it anew")
        *self._prompt, self._end = ids
        self._tokenizer, self.heads = tokenizer, [*heads]
        self.model = model
        self._most = model.config.max_target_positions // 2  # tokens
        self.eval().requires_grad_(False)

    @staticmethod
    def from_pretrained(name_or_path: str | Path) -> WhisperDecoder:
        """Raises VoicegraftError as ``SpeechEncoder.from_pretrained``, for other models than a Whisper with its tokenizer."""
        folder = resolve(name_or_path)

        def class_of(config: Any) -> Any:
            config.encoder_layers = 0
            return AutoModel

        model = load_pretrained(folder, WANTED, {"whisper"}, class_of=class_of).decoder
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # of tokenizers' own
            raise VoicegraftError(f"cannot read {folder / 'tokenizer.json'}: {error}; get it anew") from error
        return WhisperDecoder(model, tokenizer, _alignment_heads(folder, model.config))

    @property
    def words(self) -> Tensor:
        """``[V, W]``: the product of a row with a state tells how likely that token is; marks and times are left out."""
        weight: Tensor = self.model.embed_tokens.weight
        return weight[: self._end + 1]

    @property
    def vocabulary(self) -> list[str]:
        """How each token of ``words`` is written in the tokenizer's own alphabet."""
        return [self._tokenizer.id_to_token(i) or "" for i in range(self._end + 1)]

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens)))

    @torch.no_grad()
    def transcribe(self, encoded: Tensor, draft: Sequence[int] = ()) -> Written:
        """The encoder's output ``[1, T, W]`` -> what was said. Greedy; silence may well be nothing.

        What it begins to say over and over is said once, and ends there.

        Args:
            draft: tokens that are likely, say those of a part of the sound. They change nothing but the time: all are
                checked at once, and those behind the first wrong one are written anew.
        """
        encoded = encoded.to(self.model.embed_tokens.weight)
        words = self.words
        ids: list[int] = []
        states: list[Tensor] = []
        cache, known, guess = None, self._prompt, list(draft)[: self._most]
        log_prob, ended = 0.0, False
        while not ended and len(ids) < self._most:
            given = torch.tensor([[*known, *guess]], device=encoded.device)
            output = self.model(input_ids=given, encoder_hidden_states=encoded, past_key_values=cache, use_cache=True)
            cache, hidden = output.past_key_values, output.last_hidden_state[0, -len(guess) - 1 :]
            best, places = (hidden @ words.T).log_softmax(-1).max(-1)
            chosen = places.tolist()
            right = next((i for i, (a, b) in enumerate(zip(guess, chosen, strict=False)) if a != b), len(guess))
            for token, state, chance in zip(chosen[: right + 1], hidden, best.tolist(), strict=False):
                log_prob += chance
                if ended := token == self._end or len(ids) == self._most:
                    break
                ids.append(token)
                states.append(state)
                if loop := _loop(ids):
                    del ids[-loop:], states[-loop:]
                    ended = True
                    break
            if right < len(guess):
                cache.crop(right - len(guess))  # the number of those to forget
            known, guess = ids[-1:], []
        width = encoded.shape[-1]
        found = torch.stack(states).float() if states else encoded.new_zeros(0, width).float()
        return Written(self.decode(ids).strip(), found, ids, log_prob / (len(ids) + 1))

    @torch.no_grad()
    def attention(self, encoded: Tensor, text: str) -> tuple[list[tuple[int, int]], Tensor]:
        """How much each token of a known text looked at each frame, and the end after it, ``[T, N + 1]``.

        Beside it the characters of ``text`` that each token is ``[N]``. As OpenAI's word times: attention of the heads that
        follow the sound, standardised over the tokens, smoothed, averaged.
        """
        read = self._tokenizer.encode(f" {text}", add_special_tokens=False)
        ids = [*self._prompt, *read.ids][: self.model.config.max_target_positions]
        given = torch.tensor([ids], device=encoded.device)
        before = self.model.config._attn_implementation
        self.model.set_attn_implementation("eager")  # the others do not tell their weights
        try:
            found = self.model(
                input_ids=given,
                encoder_hidden_states=encoded.to(self.model.embed_tokens.weight),
                output_attentions=True,
                use_cache=False,
            ).cross_attentions
        finally:
            self.model.set_attn_implementation(before)
        # A token was chosen where the one before it was read.
        weights = torch.stack([found[layer][0, head, len(self._prompt) - 1 :] for layer, head in self.heads]).float()
        weights = (weights - weights.mean(1, keepdim=True)) / weights.std(1, keepdim=True, correction=0).clamp(min=1e-6)
        if weights.shape[-1] > _SMOOTHED // 2:
            padded = F.pad(weights, (_SMOOTHED // 2, _SMOOTHED // 2), mode="reflect")
            weights = padded.unfold(-1, _SMOOTHED, 1).median(-1).values
        num_tokens = len(ids) - len(self._prompt)
        return [(max(0, a - 1), b - 1) for a, b in read.offsets[:num_tokens]], weights.mean(0).T


def _loop(ids: Sequence[int]) -> int:
    """Tokens at the end that only say again what stands before them, 0 if it is no loop."""
    for size in range(1, len(ids) // _LOOP_TIMES + 1):
        times = max(_LOOP_TIMES, -(-_LOOP_TOKENS // size))
        if len(ids) >= size * times and list(ids[-size:]) * times == list(ids[-size * times :]):
            return size * (times - 1)
    return 0


def _alignment_heads(folder: Path, config: Any) -> list[tuple[int, int]]:
    """As the model's files name them; else, as OpenAI does, all heads of the upper half of the layers."""
    for name in ("generation_config.json", "config.json"):
        if (path := folder / name).is_file() and (named := json.loads(path.read_text("utf-8")).get("alignment_heads")):
            return [(int(layer), int(head)) for layer, head in named]
    layers = range(config.decoder_layers // 2, config.decoder_layers)
    return [(layer, head) for layer in layers for head in range(config.decoder_attention_heads)]
