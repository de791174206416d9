"""Perplexity of text that was held back from all training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from voicegraft.core.messages import Message
from voicegraft.data.chat import begin_id, chat_prompt, sentence_ids
from voicegraft.evaluation.tasks.base import Measured, Subject


@dataclass(frozen=True)
class HeldOutTexts:
    """Books and dialogues, each a part of the task."""

    pieces: Sequence[Sequence[str]]  # of books, each a list of paragraphs
    dialogues: Sequence[Sequence[Message]]
    context: int = 512  # tokens per window
    batch: int = 32  # windows at a time

    def prompts(self, tokenizer: PreTrainedTokenizerBase, window: int) -> list[list[int]]:
        """Token ids of texts to be continued: dialogues of one turn, three or five, and the pieces' first tokens."""
        # The last word is the user's.
        chats = [chat_prompt(tokenizer, chat[: 1 + 2 * (i % 3)]) for i, chat in enumerate(self.dialogues)]
        return chats + [sentence_ids(tokenizer, "\n".join(piece))[:window] for piece in self.pieces]

    def measure(self, subject: Subject) -> dict[str, Measured]:
        texts = {
            "books": [paragraph + "\n" for piece in self.pieces for paragraph in piece],
            "dialogues": [chat_text(subject.tokenizer, chat) for chat in self.dialogues],
        }
        return {f"perplexity: {n}": perplexity(subject, t, self.context, self.batch) for n, t in texts.items()}


def chat_text(tokenizer: PreTrainedTokenizerBase, chat: Sequence[Message]) -> str:
    if tokenizer.chat_template is None:
        return "".join(f"{message.role.capitalize()}: {message.text}\n" for message in chat)
    messages = [{"role": message.role, "content": message.text} for message in chat]
    return str(tokenizer.apply_chat_template(messages, tokenize=False))


@torch.inference_mode()
def perplexity(subject: Subject, texts: Iterable[str], context: int, batch: int) -> Measured:
    """Perplexity of the texts in a row, in windows that do not overlap, each after the beginning token.

    A tokenizer without a beginning token gets its end token there, as GPT-2 does. Words are what spaces separate.
    """
    texts, model, tokenizer = list(texts), subject.model, subject.tokenizer
    ids = [i for part in tokenizer(texts, add_special_tokens=False)["input_ids"] for i in part]
    windows = [[begin_id(tokenizer), *ids[i : i + context - 1]] for i in range(0, len(ids), context - 1)]
    nats = 0.0
    # The last window is shorter than the others: it goes alone.
    parts = [windows[i : min(i + batch, len(windows) - 1)] for i in range(0, len(windows) - 1, batch)] + [windows[-1:]]
    for part in tqdm(parts, desc="perplexity", unit="batch"):
        rows = torch.tensor(part, device=model.device)
        with subject.gated():
            logits = model(input_ids=rows[:, :-1], use_cache=False).logits.float()
        nats += float(F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum"))
    num_words = sum(len(text.split()) for text in texts)
    per_token, per_word = (math.exp(min(nats / count, 700.0)) for count in (len(ids), num_words))  # floats end at 709
    guessing = float(len(model.get_input_embeddings().weight))  # type: ignore[arg-type]
    return Measured("perplexity", per_token, guessing, len(ids), per_word=per_word)
