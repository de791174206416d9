"""Writing: a conversation in, the answer's text out, piece by piece.

The text expert writes; where there is audio in the conversation, the listening expert.
The backbone decodes through transformers with its own cache: with the identity for a text expert the tokens are the untouched
backbone's. Gates hold for one forward at a time, since between two pieces other streams, with other gates, may run.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message, Question, conversation
from voicegraft.core.runtime import OnThreads, random_numbers
from voicegraft.data.chat import AUDIO, chat_prompt, widened
from voicegraft.fusion.backbone import answer_ends, one_line
from voicegraft.fusion.listening import embedded
from voicegraft.fusion.text_lm import TextLM
from voicegraft.inference.sampling import Sampling, draw

_BROKEN = "\N{REPLACEMENT CHARACTER}"  # stands for bytes that are no character, or none yet


@dataclass(frozen=True)
class WritingOptions:
    """How to write."""

    max_tokens: int = 256  # of an answer; reaching it is reported
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.0, top_p=0.95))


@dataclass
class WritingReport:
    """What was written; complete when its ``Writing`` is drained."""

    text: str = ""  # so far
    ids: list[int] = field(default_factory=list)  # its tokens, without the one that ended it
    num_prompt: int = 0  # tokens of the conversation before it
    cut: bool = False  # whether max_tokens ended it
    wall_sec: float = 0.0
    first_text_sec: float = 0.0  # from the request to the first piece

    @property
    def warnings(self) -> list[str]:
        """What a reader should know, a line each."""
        found = []
        if not self.text:
            found.append("the answer is empty")
        if self.cut:
            found.append(f"the answer was cut after {len(self.ids)} tokens; allow more with max_tokens")
        return found


@dataclass(frozen=True, eq=False)
class Beginning:
    """What stands before the first audio of a conversation, already read."""

    ids: list[int]
    cache: Any  # of transformers


class Writing(Iterator[str]):
    """Pieces of one answer, without white space at its ends; what came is never taken back. ``report`` fills up."""

    def __init__(self, pieces: Iterator[str], report: WritingReport):
        self.report = report
        self._pieces = pieces
        self._began = time.perf_counter()

    @property
    def text(self) -> str:
        """What has been written so far."""
        return self.report.text

    def __next__(self) -> str:
        started = time.perf_counter()
        try:
            piece = next(self._pieces)
        finally:
            self.report.wall_sec += time.perf_counter() - started
        if not self.report.text:
            self.report.first_text_sec = time.perf_counter() - self._began
        self.report.text += piece
        return piece


class Writer:
    """Answers conversations with a fused model's text expert."""

    def __init__(self, lm: TextLM, num_threads: int | None = None):
        self.lm, self.num_threads = lm, num_threads
        self.stops = answer_ends(lm.backbone, lm.tokenizer)
        self._one_line = lm.tokenizer.chat_template is None  # a base model, which would go on with the next question
        # Large vocabularies: the prompt's logits would need more memory than the model.
        keeps = "logits_to_keep" in inspect.signature(lm.backbone.forward).parameters
        self._last_only: dict[str, Any] = {"logits_to_keep": 1} if keeps else {}

    @property
    def context(self) -> int | None:
        """Tokens that the backbone can see, question and answer together; None where it does not say."""
        length = getattr(self.lm.backbone.config.get_text_config(), "max_position_embeddings", None)
        return None if length is None else int(length)

    def begin(self, question: Question) -> Beginning:
        """Reads what stands before the first audio, so that ``start`` need not once that audio is there.

        Args:
            question: with any waveforms; those to come need not be known yet.
        """
        ids = self._ids(conversation(question))
        ids = ids[: ids.index(AUDIO)] if AUDIO in ids else ids
        return Beginning(ids, next(OnThreads(self.num_threads, map(self._read, [ids]))))

    def start(
        self,
        question: Question,
        options: WritingOptions | None = None,
        seed: int = 0,
        beginning: Beginning | None = None,
    ) -> Writing:
        """Checks a request at once, and writes while the answer is drawn.

        Args:
            question: one question, or a conversation that ends with the user's message.
            seed: of sampled writing.
            beginning: of this conversation, read already; that of another one is not used.

        Raises:
            VoicegraftError: nothing was asked, the question does not fit the backbone, or its answers have no end.
        """
        options = options or WritingOptions()
        room = self.room(options)
        prompt, heard = self._prompt(question)
        if room is not None and len(prompt) > room:
            raise VoicegraftError(
                f"the question is too long: it has {len(prompt)} tokens, {room} fit (the backbone sees {self.context}, "
                f"{options.max_tokens} are kept for the answer); shorten it, or ask for fewer max_tokens"
            )
        report = WritingReport(num_prompt=len(prompt))
        if beginning and (not heard or prompt[: len(beginning.ids)] != beginning.ids):
            beginning = None
        tokens = self._tokens(prompt, heard, options, random_numbers(seed), report, beginning)
        return Writing(OnThreads(self.num_threads, _stripped(self._texts(tokens))), report)

    def fitting(self, messages: Sequence[Message], options: WritingOptions | None = None) -> list[Message]:
        """The conversation without its oldest exchanges, where it has outgrown the backbone's context.

        The last message stays, however long, and so does what the system says first; then comes a question.
        """
        begin = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
        system, kept = list(messages[:begin]), list(messages[begin:])
        room = self.room(options or WritingOptions())
        while room is not None and len(kept) > 1 and len(self._prompt(system + kept)[0]) > room:
            del kept[0]
            while kept[0].role != "user" and len(kept) > 1:
                del kept[0]
        return system + kept

    def room(self, options: WritingOptions) -> int | None:
        """Tokens, and vectors of audio, that a conversation may have so that its answer fits; None is any number.

        Raises:
            VoicegraftError: not one, or this backbone's answers would have no end.
        """
        if not self.stops:
            raise VoicegraftError(
                "this backbone cannot answer: its tokenizer names no token that ends a text, and its generation_config.json "
                "none either; set eos_token in its tokenizer_config.json"
            )
        most = None if self.context is None else self.context - 1
        if options.max_tokens < 1 or (most is not None and options.max_tokens > most):
            wanted = "at least 1" if most is None else f"from 1 to {most}, the backbone sees {self.context}"
            raise VoicegraftError(f"expected max_tokens {wanted}; got {options.max_tokens}")
        return None if self.context is None else self.context - options.max_tokens

    def _prompt(self, question: Question) -> tuple[list[int], list[Tensor]]:
        """The conversation's ids, with ``AUDIO`` for every vector of audio, and these vectors ``[N, D]``."""
        messages = conversation(question)
        ids = self._ids(messages)
        sounds = [waveform for message in messages for waveform in message.waveforms]
        heard = self.lm.hearing.listen(sounds) if self.lm.hearing is not None else []
        return widened(ids, [len(vectors) for vectors in heard]), heard

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        """With ``AUDIO`` in the place of each audio."""
        try:
            for message in messages:  # a message with audio has no text: who cannot hear says so
                (message.text if self.lm.hearing is None else message.marked("")).encode()
            return chat_prompt(self.lm.tokenizer, messages)
        except UnicodeEncodeError as error:
            raise VoicegraftError(f"the question is not text: {error.reason} at character {error.start}") from error
        except TemplateError as error:
            raise VoicegraftError(
                f"the backbone's chat template does not take this conversation: {one_line(error)}"
            ) from error

    @torch.inference_mode()
    def _read(self, ids: list[int]) -> Any:
        """What the backbone keeps of the beginning of a conversation with audio; nothing of nothing."""
        if not ids:
            return None
        with self.lm.mole.gated(self.lm.writing(hears=True)):
            given = torch.tensor([ids], device=self.lm.backbone.device)
            return self.lm.backbone(input_ids=given, use_cache=True, **self._last_only).past_key_values

    def _tokens(
        self,
        prompt: list[int],
        heard: list[Tensor],
        options: WritingOptions,
        random: np.random.Generator,
        report: WritingReport,
        beginning: Beginning | None,
    ) -> Iterator[int]:
        """The answer's tokens up to its end; runs the model."""
        device = self.lm.backbone.device
        step = self._steps(heard, beginning)
        ids = prompt[len(beginning.ids) :] if beginning else prompt
        for _ in range(options.max_tokens):
            token = draw(step(torch.tensor([ids], device=device)), options.sampling, random)
            if token in self.stops:
                return
            report.ids.append(token)
            yield token
            ids = [token]
        report.cut = True

    def _steps(self, heard: list[Tensor], beginning: Beginning | None) -> Callable[[Tensor], np.ndarray]:
        """The model at work on one text: its next ids ``[1, T]``, the prompt first -> logits ``[V]`` of what follows."""
        gates = self.lm.writing(hears=bool(heard))  # one for the whole text: a router remembers what has passed
        cache = deepcopy(beginning.cache) if beginning else None  # it grows, and others may begin so
        vectors = heard

        @torch.inference_mode()
        def step(ids: Tensor) -> np.ndarray:
            nonlocal cache, vectors
            given = {"input_ids": ids}
            if vectors:
                given = {"inputs_embeds": embedded(self.lm.backbone, ids, vectors)}
                vectors = []
            with self.lm.mole.gated(gates):
                out = self.lm.backbone(**given, past_key_values=cache, use_cache=True, **self._last_only)
            cache = out.past_key_values
            return out.logits[0, -1].float().cpu().numpy()

        return step

    def _texts(self, tokens: Iterable[int]) -> Iterator[str]:
        for piece in decoded(self.lm.tokenizer, tokens):
            line, broken, _ = piece.partition("\n")
            yield line if self._one_line else piece
            if broken and self._one_line:
                return


def decoded(tokenizer: PreTrainedTokenizerBase, tokens: Iterable[int]) -> Iterator[str]:
    """Tokens -> pieces of their text that never end inside a character; joined, they are the text of all tokens.

    Decoding looks at the piece before as well, since many tokenizers write a token differently at the beginning of a text.
    """

    def text(of: list[int]) -> str:
        # Cleaning up would take back spaces that are out already.
        return str(tokenizer.decode(of, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    before: list[int] = []  # of the last piece
    new: list[int] = []
    for token in tokens:
        new.append(token)
        piece = text(before + new)[len(text(before)) :]
        if piece and not piece.endswith(_BROKEN):
            yield piece
            before, new = new, []
    if rest := text(before + new)[len(text(before)) :].rstrip(_BROKEN):  # a character that was cut in two
        yield rest


def _stripped(pieces: Iterable[str]) -> Iterator[str]:
    """The same text without white space at its ends."""
    kept, begun = "", False
    for piece in pieces:
        piece = kept + piece
        if not begun:
            piece = piece.lstrip()
        ready = piece.rstrip()
        kept = piece[len(ready) :]
        if ready:
            begun = True
            yield ready
