"""A soft transcript: one vector for each of the LLM's tokens in what the recogniser's decoder wrote, with its doubts.

The decoder's states say how likely each of its own tokens is. What it wrote is cut again as the LLM's tokenizer cuts it; where
a token of the LLM is one of the recogniser's, its vector is the mean of the LLM's embeddings over what else might have been
said, weighed by how likely it is, else the embedding itself. So the LLM hears the words without any training, and where the
recogniser was not sure it knows. What a perceptron makes of the states is added; it begins at nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.core.errors import VoicegraftError
from voicegraft.encoders.listening import Ears
from voicegraft.encoders.whisper_decoder import WhisperDecoder
from voicegraft.fusion.connectors.base import Connector, ConnectorConfig, Heard, embedding_rows, made_of


@dataclass(frozen=True)
class StatesConfig(ConnectorConfig):
    hidden: int = 256
    alternatives: int = 8  # the likeliest ones to a token of the recogniser; 1: what it wrote alone


class States(Connector):
    KIND, CONFIG = "connector-states", StatesConfig
    READS = NEEDS_EARS = True
    config: StatesConfig
    table: Tensor | None  # [V, D], the backbone's embeddings
    words: Tensor | None  # [P, W], of the recogniser's tokens but for the last, which ends a text
    same: Tensor | None  # [P] int64: the backbone's token that is written alike, or -1

    def __init__(self, config: StatesConfig):
        super().__init__()
        c = self.config = config
        last = nn.Linear(c.hidden, c.output_width)
        self.more = nn.Sequential(nn.LayerNorm(c.input_width), nn.Linear(c.input_width, c.hidden), nn.GELU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        for name in ("table", "words", "same"):
            self.register_buffer(name, None, persistent=False)
        self.tokenizer: PreTrainedTokenizerBase | None = None
        self._decoder: list[WhisperDecoder] = []  # a list: it is no part of this module

    def attach(self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, fingerprint: str = "") -> None:
        super().attach(backbone, tokenizer, fingerprint)
        self.table = embedding_rows(backbone).to(next(self.parameters()).device)
        self.tokenizer = tokenizer

    def attach_ears(self, ears: Ears) -> None:
        super().attach_ears(ears)
        if ears.decoder is None or self.tokenizer is None:
            raise VoicegraftError("this connector needs ears that read the decoder, and its backbone before them")
        device = next(self.parameters()).device
        self._decoder = [ears.decoder]
        self.words = ears.decoder.words[:-1].to(device)
        vocabulary = self.tokenizer.get_vocab()
        same = [vocabulary.get(word, -1) for word in ears.decoder.vocabulary[: len(self.words)]]
        self.same = torch.tensor(same, device=device)

    def forward(self, frames: Tensor, lengths: Tensor) -> Heard:
        table, words, same = self._attached()
        found = []
        for row, length in zip(frames, lengths.tolist(), strict=True):
            best, others = (row[:length] @ words.T).topk(min(self.config.alternatives, len(words)))
            tokens, sources = self._as_written(others[:, 0].tolist())
            vectors = table[tokens].float()
            others = same[others]
            chances = best.softmax(-1) * (others >= 0)
            alone = [place for place, source in enumerate(sources) if len(source) == 1]
            meant = [place for place in alone if tokens[place] == others[sources[place][0], 0]]
            if meant:
                chance, other = (x[[sources[place][0] for place in meant]] for x in (chances, others))
                mixed = (chance[..., None] * table[other.clamp(min=0)].float()).sum(1) / chance.sum(1, keepdim=True)
                vectors = vectors.index_copy(0, torch.tensor(meant, device=vectors.device), mixed)
            more = self.more(row[:length])
            if tokens:
                vectors = vectors + torch.stack([more[source].mean(0) for source in sources])
            found.append(vectors)
        return Heard(pad_sequence(found, batch_first=True), torch.tensor([*map(len, found)], device=frames.device))

    @torch.inference_mode()
    def read(self, frames: Tensor, lengths: Tensor) -> list[list[int]]:
        _, words, _ = self._attached()
        rows = zip(frames, lengths.tolist(), strict=True)
        return [self._as_written((row[:length] @ words.T).argmax(-1).tolist())[0] for row, length in rows]

    def _attached(self) -> tuple[Tensor, Tensor, Tensor]:
        if self.table is None or self.words is None or self.same is None:
            raise VoicegraftError("this connector reads by backbone and recogniser: attach and attach_ears come first")
        return self.table, self.words, self.same

    def _as_written(self, pieces: Sequence[int]) -> tuple[list[int], list[list[int]]]:
        """The LLM's tokens of what the recogniser's say, and which of these (by place) each is made of."""
        assert self.tokenizer is not None
        (decoder,) = self._decoder
        text = decoder.decode(pieces)
        lead = len(text) - len(text.lstrip())
        cut = self.tokenizer(text.strip(), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ends = [len(decoder.decode(pieces[: i + 1])) - lead for i in range(len(pieces))]
        return cut["input_ids"], made_of(ends, [end for _, end in cut["offset_mapping"]])
