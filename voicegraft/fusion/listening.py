"""Hearing: what a frozen speech encoder and a connector make of audio stands among the text's embeddings.

A listening pack is a folder with ``listening.json``, ``connector/`` and, if the LLM was taught too, ``listening/``, a PEFT
adapter that acts on conversations with audio alone. It names the encoder and the backbone, and holds neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import soxr
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.audio.io import resampled
from voicegraft.core.artifacts import inside_folder, read_json
from voicegraft.core.hub import is_hub_name
from voicegraft.core.messages import Waveform
from voicegraft.core.parts import known_parts
from voicegraft.data.chat import AUDIO
from voicegraft.encoders.listening import SHORTEST_SEC, Ears, EncoderSettings, Features
from voicegraft.encoders.recognizer import Words
from voicegraft.fusion.connectors.base import Connector, open_connector
from voicegraft.fusion.experts import LISTENING, Belongs, Expert

HEADER = "listening.json"
FORMAT = 1
CONNECTOR = "connector"  # folder of a listening pack
_DRAFT_SEC, _DRAFT_SHARE = 0.4, 0.5  # words are written down after so much new sound; drafts take no more of its time
Mode: TypeAlias = Literal["pure", "beside", "cascade"]  # the LLM gets vectors, vectors and a transcript, a transcript


@dataclass(frozen=True)
class ListeningHeader:
    """``listening.json``."""

    name: str
    format: int = FORMAT
    backbone: str = ""  # hub:NAME[@REVISION] or part:NAME; any other, and that of a voice pack's part, is given
    encoder: EncoderSettings = field(default_factory=EncoderSettings)  # model: a part, hub:NAME or a folder of the pack
    mode: Mode = "beside"  # how it listens if nobody says
    provenance: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def read(folder: Path) -> ListeningHeader:
        """Raises VoicegraftError: there is no listening pack, it is damaged, or of another format."""
        return read_json(folder / HEADER, ListeningHeader, "listening pack", FORMAT, "train it anew")


def known_as(model: str) -> str:
    """An encoder's name in a listening pack: a folder of this machine is nothing to others, whose fingerprint then tells."""
    return model if is_hub_name(model) else Path(model).name


class Hearing(nn.Module):
    """An encoder and a connector, frozen: audio -> vectors ``[N, D]`` among a backbone's embeddings."""

    def __init__(self, connector: Connector, open_ears: Callable[[], Ears]):
        """
        Args:
            connector: attached to its backbone.
            open_ears: the encoder that it was trained on; it is opened when there is something to hear.
        """
        super().__init__()
        self.connector = connector.eval().requires_grad_(False)
        self._open_ears = open_ears
        self._heard: WeakKeyDictionary[Waveform, Tensor] = WeakKeyDictionary()
        self._words: WeakKeyDictionary[Waveform, Words] = WeakKeyDictionary()

    @staticmethod
    def load(
        folder: Path,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        fingerprint: str = "",
        encoder: str | Path | None = None,
    ) -> Hearing:
        """What a listening pack hears with; its encoder is opened later, so that who only speaks needs none.

        Args:
            fingerprint: the backbone's, where it is known already.
            encoder: a part, folder or name on the Hub, if not the one that the pack names.

        Raises:
            VoicegraftError: not a listening pack, damaged, of another backbone, or it names an encoder outside the pack.
        """
        settings = ListeningHeader.read(folder).encoder
        if encoder is None and settings.model not in known_parts() and not is_hub_name(settings.model):
            encoder = inside_folder(folder, settings.model, f"{HEADER} names an encoder")
        connector = open_connector(folder / CONNECTOR)
        connector.attach(backbone, tokenizer, fingerprint)
        return Hearing(connector, partial(Ears, replace(settings, model=str(encoder or settings.model))))

    @staticmethod
    def expert(folder: Path, belongs: Belongs | None = None) -> Expert | None:
        """The expert of a listening pack; None, the identity, where the connector alone learnt."""
        adapter = folder / LISTENING
        return Expert.load(adapter, belongs) if adapter.is_dir() else None

    @cached_property
    def ears(self) -> Ears:
        """The encoder. Raises VoicegraftError: it is not there, or not the one that the connector was trained on."""
        ears = self._open_ears().to(next(self.connector.parameters()).device)
        self.connector.attach_ears(ears)
        return ears

    @torch.no_grad()
    def listen(self, waveforms: Sequence[Waveform]) -> list[Tensor]:
        """Audio -> vectors ``[N, D]`` of each; what was heard once is remembered as long as its waveform is.

        Raises:
            VoicegraftError: a waveform is shorter than 50 ms, or the encoder cannot be opened.
        """
        new = [waveform for waveform in dict.fromkeys(waveforms) if waveform not in self._heard]
        rate = self.ears.sample_rate if new else 0
        sounds = [torch.from_numpy(resampled(w.samples, w.sample_rate, rate)) for w in new]
        for waveform, features in zip(new, self.ears(sounds) if new else (), strict=True):
            self.remember(waveform, features)
        return [self._heard[waveform] for waveform in waveforms]

    def read(self, waveform: Waveform, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """What the connector itself reads, without the LLM; None for kinds that cannot tell. Errors as of ``listen``."""
        if (words := self.words(waveform)) is not None:
            return words.text
        if not self.connector.READS:
            return None
        samples = resampled(waveform.samples, waveform.sample_rate, self.ears.sample_rate)
        frames = self.ears([torch.from_numpy(samples)])[0].frames
        (tokens,) = self.connector.read(frames[None], torch.tensor([len(frames)], device=frames.device))
        return str(tokenizer.decode(tokens)).strip()

    def words(self, waveform: Waveform) -> Words | None:
        """What the recogniser wrote, where the connector hears by its decoder. Errors as of ``listen``."""
        if self.ears.decoder is None:
            return None
        self.listen([waveform])
        return self._words[waveform]

    @torch.no_grad()
    def remember(self, waveform: Waveform, features: Features) -> None:
        """What the encoder heard in a waveform: it need not be heard again."""
        frames = features.frames
        lengths = torch.tensor([len(frames)], device=frames.device)
        self._heard[waveform] = self.connector(frames[None], lengths).rows()[0]
        if features.transcript is not None:
            self._words[waveform] = Words(features.transcript, features.sure)

    def start(self, sample_rate: int, chunk_sec: float = 4.0, context_sec: float = 1.0) -> HearingStream:
        """Begins to hear sound that is still arriving.

        Args:
            sample_rate: Hz, of the sound.
            chunk_sec: heard at a time; sound that is not longer than this and the context is heard in one go.
            context_sec: that is heard again on either side of a chunk.
        """
        if self.ears.decoder is not None:
            return WordStream(self, sample_rate)
        return ChunkStream(self, sample_rate, chunk_sec, context_sec)


class HearingStream:
    """Hears sound while it arrives, so that at its end little is left to do. How it is cut into pushes changes nothing."""

    def __init__(self, hearing: Hearing, sample_rate: int):
        self._hearing, self._rate, self._ears = hearing, sample_rate, hearing.ears
        self._resampler = (
            None
            if sample_rate == self._ears.sample_rate
            else soxr.ResampleStream(sample_rate, self._ears.sample_rate, 1, dtype="float32")
        )
        self._given: list[np.ndarray] = []  # all samples, as they came
        self._sound = np.zeros(0, np.float32)  # at the encoder's rate; what is done with is dropped
        self._done: list[Features] = []

    def push(self, samples: np.ndarray) -> None:
        """The next samples ``[T]``, float32 in [-1, 1]."""
        self._given.append(samples)
        self._take(samples, last=False)
        with torch.no_grad():
            self._hear()

    def finish(self) -> Waveform:
        """The whole sound, for a message; ``Hearing.listen`` knows its vectors already.

        Raises:
            VoicegraftError: it is shorter than 50 ms.
        """
        self._take(np.zeros(0, np.float32), last=True)
        with torch.no_grad():
            self._hear_rest()
        waveform = Waveform(np.concatenate(self._given), self._rate)
        self._hearing.remember(waveform, Features.joined(self._done))
        return waveform

    def _hear(self) -> None:
        """What can be heard by now."""
        raise NotImplementedError

    def _hear_rest(self) -> None:
        raise NotImplementedError

    def _take(self, samples: np.ndarray, last: bool) -> None:
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last)
        self._sound = np.concatenate([self._sound, samples])


class ChunkStream(HearingStream):
    """By an encoder alone: chunk after chunk, in its context.

    Layers that look both ways hear a chunk a little otherwise than in the whole sound (docs/hearing.md tells how much).
    """

    def __init__(self, hearing: Hearing, sample_rate: int, chunk_sec: float, context_sec: float):
        super().__init__(hearing, sample_rate)
        self._hop = self._ears.encoder.hop
        self._chunk = max(1, round(chunk_sec * self._ears.frames_per_sec))  # frames, as all that follow
        self._context = round(max(context_sec, 2 * SHORTEST_SEC) * self._ears.frames_per_sec)
        self._begin = 0  # of the sound that is kept
        self._end = 0  # of what has been heard

    def _hear(self) -> None:
        while self._begin + len(self._sound) // self._hop > (end := self._end + self._chunk) + self._context:
            self._hear_to(end)
            self._end, begin = end, max(self._begin, end - self._context)
            self._sound, self._begin = self._sound[(begin - self._begin) * self._hop :], begin

    def _hear_rest(self) -> None:
        self._hear_to(None)

    def _hear_to(self, end: int | None) -> None:
        stop = None if end is None else (end + self._context - self._begin) * self._hop
        frames = self._ears([torch.from_numpy(self._sound[:stop])])[0].frames
        self._done.append(Features(frames[self._end - self._begin : None if end is None else end - self._begin]))


class WordStream(HearingStream):
    """By a recogniser's decoder, which hears the whole: what it said to a part is a draft that costs little to check."""

    def __init__(self, hearing: Hearing, sample_rate: int):
        super().__init__(hearing, sample_rate)
        self._draft: list[int] = []
        self._drafted = 0  # samples
        self._pause = _DRAFT_SEC  # until the next draft

    def _hear(self) -> None:
        while len(self._sound) > self._ears.window:
            piece, self._sound = np.split(self._sound, [self._ears.window])
            self._done.append(self._ears.write(torch.from_numpy(piece), self._draft))
            self._draft, self._drafted = [], 0
        if len(self._sound) - self._drafted >= self._pause * self._ears.sample_rate:
            began = time.perf_counter()
            self._draft = self._ears.write(torch.from_numpy(self._sound), self._draft).tokens
            self._drafted = len(self._sound)
            self._pause = max(_DRAFT_SEC, (time.perf_counter() - began) / _DRAFT_SHARE)

    def _hear_rest(self) -> None:
        if not self._done:  # tells if it is too short
            self._ears.check(torch.from_numpy(self._sound))
        self._done.append(self._ears.write(torch.from_numpy(self._sound), self._draft))


def embedded(backbone: PreTrainedModel, ids: Tensor, heard: Sequence[Tensor]) -> Tensor:
    """Token ids ``[B, L]`` -> the backbone's embeddings ``[B, L, D]``, with the vectors of audio in the places of ``AUDIO``.

    Args:
        heard: vectors ``[N, D]`` of each piece of audio, in the order of the rows and of the places in them.

    Raises:
        ValueError: there are more places than vectors, or fewer: ids are ``data.chat.widened`` by the vectors' numbers.
    """
    embeddings: Tensor = backbone.get_input_embeddings()(ids.clamp(min=0))
    places = ids == AUDIO
    if int(places.sum()) != sum(map(len, heard)):
        raise ValueError(f"expected {int(places.sum())} vectors of audio, got {sum(map(len, heard))}")
    if not heard:
        return embeddings
    return embeddings.masked_scatter(places[..., None], torch.cat(list(heard)).to(embeddings))
