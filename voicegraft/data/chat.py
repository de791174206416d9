"""Conversations in the form that a backbone was trained on: its chat template, or bare turns where it has none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message, Question, conversation

AUDIO = -1  # among token ids: in the place of audio; once its vectors are known, in the place of each (``widened``)
_LABELS = {"system": "", "user": "Question: ", "assistant": "Answer: "}  # for a base model, which knows no turns


def chat_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation up to where the assistant begins to write, with ``AUDIO`` in the place of each audio.

    Raises:
        VoicegraftError: a message of the system or the assistant has audio, or the chat template leaves audio or a system
            message out.
        jinja2.TemplateError: the chat template refuses the conversation.
    """
    if odd := [message.role for message in messages if message.waveforms and message.role != "user"]:
        raise VoicegraftError(
            f"expected audio in the user's messages alone, got some in the {odd[0]}'s: send its words"
        )
    known = "".join(message.marked("") for message in messages)
    marker = next(mark for number in count() if (mark := f"[audio-{number}]") not in known)
    if tokenizer.chat_template is None:
        lines = [_LABELS[message.role] + message.marked(marker) for message in messages]
        return _encode_around(tokenizer, "\n".join([*lines, "Answer:"]).split(marker), special=True)
    turns = [{"role": message.role, "content": message.marked(marker)} for message in messages]
    text = str(tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
    if any(message.role == "system" and message.text.strip() not in text for message in messages):
        raise VoicegraftError(
            "the backbone's chat template has no place for this system message; say it in the user's first message"
        )
    pieces = text.split(marker)
    if len(pieces) - 1 != (asked := sum(len(message.waveforms) for message in messages)):
        raise VoicegraftError(
            f"the backbone's chat template has {len(pieces) - 1} places for the {asked} pieces of audio in this "
            "conversation: send the words of those that it leaves out"
        )
    return _encode_around(tokenizer, pieces)  # the template has written the special tokens itself


def _encode_around(tokenizer: PreTrainedTokenizerBase, pieces: Sequence[str], special: bool = False) -> list[int]:
    """Token ids of text that audio stands between."""
    # Some tokenizers put a space before a text's first word: behind a special token the words go on.
    added = tokenizer.added_tokens_decoder.values()
    before = next((token.content for token in added if token.special and not token.rstrip), "")
    ids = encode(tokenizer, pieces[0], special)
    for piece in pieces[1:]:
        ids += [AUDIO, *encode(tokenizer, before + piece)[bool(before) :]]
    return ids


def widened(ids: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """Token ids in which each ``AUDIO`` stands as often as that audio has vectors."""
    if len(lengths) != sum(i == AUDIO for i in ids):
        raise ValueError(f"expected the lengths of {sum(i == AUDIO for i in ids)} pieces of audio, got {len(lengths)}")
    left = iter(lengths)
    return [wide for i in ids for wide in ([AUDIO] * next(left) if i == AUDIO else [i])]


def encode(tokenizer: PreTrainedTokenizerBase, text: str, special: bool = False) -> list[int]:
    """Token ids of a text, without the tokenizer's own additions unless asked for."""
    # Whoever runs the model tells what is too long for it, in words of its own: verbose is a warning.
    ids: list[int] = tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
    return ids


def sentence_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """A text as the speech expert reads it: the begin token, if there is one, and the text's tokens."""
    begin = tokenizer.bos_token_id
    return encode(tokenizer, text) if begin is None else [int(begin), *encode(tokenizer, text)]


def begin_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """A token to begin any text with: the begin token, or, as in GPT-2, the end token, or just a token."""
    return _first(tokenizer.bos_token_id, tokenizer.eos_token_id)


def filler_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """A token for positions of a batch that nothing reads; many a tokenizer names none."""
    return _first(tokenizer.pad_token_id, tokenizer.eos_token_id)


def _first(*ids: int | None) -> int:
    return next((int(i) for i in ids if i is not None), 0)


def stop_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end an answer: the end token, and a line break where there are no turns."""
    ends = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    return ends if tokenizer.chat_template is not None else ends + encode(tokenizer, "\n")[-1:]


@dataclass(frozen=True)
class AnsweredQuestion:
    """A conversation with its answer, as token ids ``[L]``; the answer, its end included, begins at ``num_prompt``."""

    ids: list[int]
    num_prompt: int

    def __len__(self) -> int:
        return len(self.ids)

    def widened(self, lengths: Sequence[int]) -> AnsweredQuestion:
        """With as many places for each audio of the conversation as it has vectors."""
        ids = widened(self.ids, lengths)
        return AnsweredQuestion(ids, self.num_prompt + len(ids) - len(self.ids))


def answered_questions(
    tokenizer: PreTrainedTokenizerBase, pairs: Iterable[tuple[Question, str]]
) -> list[AnsweredQuestion]:
    """(question, answer) -> token sequences to train on; a question may be a conversation, and hold audio.

    Raises:
        VoicegraftError: nothing was asked, or the tokenizer has nothing that ends an answer.
    """
    stops = stop_ids(tokenizer)
    if not stops:
        raise VoicegraftError(
            "this backbone cannot learn to answer: its tokenizer names no token that ends a text; set eos_token in its "
            "tokenizer_config.json"
        )
    found = []
    for question, answer in pairs:
        prompt = chat_prompt(tokenizer, conversation(question))
        written = answer if tokenizer.chat_template is not None else f" {answer}"
        found.append(AnsweredQuestion([*prompt, *encode(tokenizer, written), stops[-1]], len(prompt)))
    return found


def collate_answers(items: Sequence[AnsweredQuestion], pad: int, device: torch.device) -> dict[str, Tensor]:
    """Pads on the right: ``input_ids`` ``[B, L]``, and ``answer`` ``[B, L]``, true where a token is to be learnt.

    Sequences with audio come ``widened``; ``fusion.listening.embedded`` puts the vectors in the places of ``AUDIO``.
    """
    longest = max(map(len, items))
    ids = np.full((len(items), longest), pad, dtype=np.int64)
    answer = np.zeros((len(items), longest), dtype=bool)
    for row, item in enumerate(items):
        ids[row, : len(item)] = item.ids
        answer[row, item.num_prompt : len(item)] = True
    return {"input_ids": torch.from_numpy(ids).to(device), "answer": torch.from_numpy(answer).to(device)}
