"""A byte-level BPE tokenizer for texts and chats, and rows of its tokens for next-token prediction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from voicegraft.core.messages import Message

PAD, BEGIN, END, USER, ASSISTANT = SPECIAL = ("<|pad|>", "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>")

# The bare Jinja form of `chat_ids`; roles that the model has never seen are refused rather than guessed.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] not in ['user', 'assistant'] %}"
    "{{ raise_exception('roles are user and assistant, got ' + message['role']) }}{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int, context: int = 2048) -> PreTrainedTokenizerFast:
    """A byte-level BPE: any text can be encoded, case is kept, digits stand alone.

    A space is put before a text that has none, so a word is the same token at the start of a text and inside;
    decoded text therefore begins with a space. Encoding puts the beginning token in front, as Llama's does.

    Args:
        vocab_size: special tokens included.
        context: longest sequence that the model is meant for.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Digits(individual_digits=True)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    begin = bpe.token_to_id(BEGIN)
    bpe.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, begin)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Hugging Face's files, in a form that older versions of transformers read as well as the present one."""
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("extra_special_tokens", "is_local", "local_files_only"):
        config.pop(key, None)
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": [USER, ASSISTANT]}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)  # a third of the size


class ChatEncoder:
    """Encodes many texts and chats at once; the same ids as the chat template gives (a test says so)."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._bpe = tokenizer.backend_tokenizer
        vocabulary = self._bpe.get_vocab()
        self.begin, self.end, self.user, self.assistant = (vocabulary[token] for token in (BEGIN, END, USER, ASSISTANT))

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        return [e.ids for e in self._bpe.encode_batch(list(texts), add_special_tokens=False)]

    def chats(self, chats: Sequence[Sequence[Message]]) -> Iterator[tuple[list[int], list[bool]]]:
        """Token ids per chat, and whether a token belongs to an answer (its end token included)."""
        words = iter(self.texts([message.text for chat in chats for message in chat]))
        for chat in chats:
            ids, answer = [self.begin], [False]
            for message in chat:
                turn = next(words)
                spoken = message.role == "assistant"
                ids += [self.assistant if spoken else self.user, *turn, self.end]
                answer += [False] + [spoken] * (len(turn) + 1)
            yield ids, answer


def stream_rows(stream: np.ndarray, begin: int, context: int) -> np.ndarray:
    """A token stream `[N]` in rows `[R, context]`, each begun by the beginning token; the rest is dropped."""
    body = context - 1
    num_rows = len(stream) // body
    rows = stream[: num_rows * body].reshape(num_rows, body)
    return np.concatenate([np.full((num_rows, 1), begin, rows.dtype), rows], axis=1)


def packed_rows(
    sequences: Iterable[tuple[Sequence[int], Sequence[int]]], pad: int, context: int
) -> tuple[np.ndarray, np.ndarray]:
    """Packs whole sequences of (ids, marks) into rows: ids `[R, context]` uint16, marks `[R, context]` uint8.

    Sequences longer than a row are left out; what a row lacks is padding with mark zero.
    """
    ids_rows: list[list[int]] = []
    mark_rows: list[list[int]] = []
    for ids, marks in sequences:
        if len(ids) > context:
            continue
        if not ids_rows or len(ids_rows[-1]) + len(ids) > context:
            ids_rows.append([])
            mark_rows.append([])
        ids_rows[-1] += ids
        mark_rows[-1] += marks
    all_ids = np.full((len(ids_rows), context), pad, np.uint16)
    all_marks = np.zeros((len(ids_rows), context), np.uint8)
    for row, (i, m) in enumerate(zip(ids_rows, mark_rows, strict=True)):
        all_ids[row, : len(i)] = i
        all_marks[row, : len(m)] = m
    return all_ids, all_marks
