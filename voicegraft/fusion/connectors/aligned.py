"""About one vector per token: the connector reads, and hands the LLM the embeddings of what it read.

Strided convolutions and conformer layers give each slot (80 ms) a direction, scored by its cosine with the frozen LLM's own
token embeddings, and the chance that nothing new is said there (blank), as in CTC (Graves et al. 2006). Slots of the same
piece are collapsed to one. Only some tokens of the LLM are *pieces*, frequent ones and single letters, so that words that
were never heard in training can be spelt; what was read is joined to text and cut again as the LLM's tokenizer would cut it,
and the LLM gets these tokens' embeddings. Gradients pass straight through (arXiv 1308.3432) to the directions of the slots that
are read by sound alone; without gradients, n-grams help to read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.chat import encode
from voicegraft.fusion.connectors.base import Connector, ConnectorConfig, Heard, Strided, embedding_rows, made_of
from voicegraft.fusion.connectors.conformer import ConformerLayers
from voicegraft.fusion.connectors.ngrams import BLANK, Fusion, NGrams, Reader


@dataclass(frozen=True)
class AlignedConfig(ConnectorConfig):
    num_pieces: int  # tokens that it can read
    width: int = 320
    layers: int = 2
    heads: int = 5
    kernel: int = 5  # of the convolutions; an odd number
    strides: tuple[int, ...] = (2, 2)  # 50 frames a second to 12.5 slots
    dropout: float = 0.1
    ngrams: tuple[int, ...] = ()  # numbers of n-grams that it reads with, of each order from 1; none: by sound alone
    fusion: Fusion = field(default_factory=Fusion)


class Aligned(Connector):
    KIND, CONFIG = "connector-aligned", AlignedConfig
    READS = True
    config: AlignedConfig
    pieces: Tensor  # [P] int64, token ids
    table: Tensor | None  # [V, D], the backbone's embeddings

    def __init__(self, config: AlignedConfig):
        super().__init__()
        c = self.config = config
        widths = [c.input_width, *[c.width] * len(c.strides)]
        self.register_buffer("pieces", torch.zeros(c.num_pieces, dtype=torch.int64))
        self.norm = nn.LayerNorm(c.input_width)
        self.convolutions = nn.ModuleList(
            Strided(*pair, c.kernel, stride) for pair, stride in zip(pairwise(widths), c.strides, strict=True)
        )
        self.layers = ConformerLayers(c.width, c.layers, c.heads, 9, c.dropout)
        self.direction = nn.Linear(c.width, c.output_width)
        self.blank = nn.Linear(c.width, 1)
        self.sharpness = nn.Parameter(torch.tensor(math.log(20.0)))  # of the softmax over cosines
        self.ngrams = NGrams(c.num_pieces, c.ngrams) if c.ngrams else None
        self.register_buffer("table", None, persistent=False)
        self.tokenizer: PreTrainedTokenizerBase | None = None

    @property
    def frames_per_slot(self) -> int:
        return math.prod(self.config.strides)

    def attach(self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, fingerprint: str = "") -> None:
        super().attach(backbone, tokenizer, fingerprint)
        self.table = embedding_rows(backbone).to(self.sharpness.device)
        self.tokenizer = tokenizer

    def _attached(self) -> tuple[Tensor, PreTrainedTokenizerBase]:
        if self.table is None or self.tokenizer is None:
            raise VoicegraftError(
                "this connector reads by the backbone's embeddings: attach(backbone, tokenizer) first"
            )
        return self.table, self.tokenizer

    def directions(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frames ``[B, T, W]`` -> unit vectors ``[B, S, D]``, blank's logits ``[B, S]``, numbers of slots ``[B]``."""
        x = self.norm(frames)
        for convolution in self.convolutions:
            x, lengths = convolution(x, lengths)
            x = F.gelu(x)
        x = self.layers(x, lengths)
        return F.normalize(self.direction(x).float(), dim=-1), self.blank(x).float()[..., 0], lengths

    def scores(self, directions: Tensor, blank: Tensor) -> Tensor:
        """Log-probabilities ``[B, S, 1 + P]``: of blank, then of each piece."""
        table, _ = self._attached()
        rows = F.normalize(table[self.pieces].float(), dim=-1)
        which = (self.sharpness.exp() * directions @ rows.T).log_softmax(-1)
        return torch.cat([F.logsigmoid(blank)[..., None], F.logsigmoid(-blank)[..., None] + which], -1)

    def forward(self, frames: Tensor, lengths: Tensor) -> Heard:
        table, _ = self._attached()
        if self.ngrams is not None and not torch.is_grad_enabled():
            found = [table[tokens].float() for tokens in self.read(frames, lengths)]
            return _heard(found, frames.device)
        directions, blank, slots = self.directions(frames, lengths)
        found = []
        for row, runs in zip(directions, self._runs(directions, blank, slots), strict=True):
            tokens, sources = self._as_written([piece for piece, _ in runs])
            exact = table[tokens].float() if tokens else table[:0].float()
            said = [row[[slot for i in source for slot in runs[i][1]]].mean(0) for source in sources]
            # Where nothing is read there is nothing to learn, yet a way for gradients.
            towards = (torch.stack(said) if said else row[:0]) * exact.norm(dim=-1, keepdim=True)
            found.append(exact + (towards - towards.detach()))
        return _heard(found, frames.device)

    @torch.inference_mode()
    def read(self, frames: Tensor, lengths: Tensor) -> list[list[int]]:
        """The LLM's tokens of what is said in each, as its tokenizer would cut the text."""
        directions, blank, slots = self.directions(frames, lengths)
        if self.ngrams is None:
            said = [[piece for piece, _ in row] for row in self._runs(directions, blank, slots)]
        else:
            scores, ids = self.scores(directions, blank).cpu().numpy(), self.pieces.tolist()
            rows = zip(scores, slots.tolist(), strict=True)
            said = [[ids[n - 1] for n in self._reader.read(row[:length])] for row, length in rows]
        return [self._as_written(pieces)[0] for pieces in said]

    @cached_property
    def _reader(self) -> Reader:
        assert self.ngrams is not None
        return self.ngrams.reader(self.config.fusion)

    def _runs(self, directions: Tensor, blank: Tensor, lengths: Tensor) -> list[list[tuple[int, list[int]]]]:
        """Of each row, the pieces' token ids with the slots that say them."""
        best = self.scores(directions.detach(), blank.detach()).argmax(-1).tolist()
        ids, found = self.pieces.tolist(), []
        for row, length in zip(best, lengths.tolist(), strict=True):
            groups = [(n, [s for s, _ in group]) for n, group in groupby(enumerate(row[:length]), key=lambda x: x[1])]
            found.append([(ids[n - 1], slots) for n, slots in groups if n != BLANK])
        return found

    def _as_written(self, pieces: Sequence[int]) -> tuple[list[int], list[list[int]]]:
        """Tokens as the tokenizer cuts the text that the pieces spell, and which pieces (by place) each is made of."""
        _, tokenizer = self._attached()
        text = str(tokenizer.decode(list(pieces), clean_up_tokenization_spaces=False))
        tokens = encode(tokenizer, text.strip())
        ends, new_ends = (
            np.cumsum([len(s) for s in tokenizer.convert_ids_to_tokens(ids)]) for ids in (list(pieces), tokens)
        )
        if not tokens:
            return [], []
        ends -= len(text) - len(text.lstrip())  # white space before the first word
        return tokens, made_of(ends.tolist(), new_ends.tolist())


def _heard(rows: list[Tensor], device: torch.device) -> Heard:
    return Heard(nn.utils.rnn.pad_sequence(rows, True), torch.tensor([len(row) for row in rows], device=device))
