"""Ears: waveforms of any length -> what a language model may hear, from any pretrained speech encoder.

Whisper's encoder is run on the sound itself and a little silence, instead of on its window of 30 s: ten times cheaper, and
connectors learn from it as well. Its own decoder wants more silence, but not all of it (docs/hearing.md).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from voicegraft.core.artifacts import fingerprint
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import resolve
from voicegraft.core.parts import JUDGE, find_part, known_parts
from voicegraft.encoders.recognizer import SURE_LOG_PROB
from voicegraft.encoders.speech_encoder import SpeechEncoder
from voicegraft.encoders.whisper_decoder import WhisperDecoder

SHORTEST_SEC = 0.05
DECODER_TAIL_SEC = 5.0  # silence without which Whisper's decoder says its words again and again
_SPAN_SEC = 15.0  # up to here the silence behind that of ``tail_sec`` is encoded once for all sounds
_WINDOW_SEC = 30.0  # of encoders that have no window of their own: what they attend to at once


@dataclass(frozen=True)
class EncoderSettings:
    model: str = JUDGE  # a part's name, a folder (also a Whisper for CTranslate2), a name on the Hub
    layer: int = -1  # hidden layer that is read; -1: the encoder's own output, after its last norm
    tail_sec: float = (
        1.0  # Whisper: silence behind the sound instead of padding to its 30 s window; negative: pad to it
    )
    reads: Literal["encoder", "decoder"] = "encoder"  # decoder: one state per token of the recogniser's own transcript

    def __post_init__(self) -> None:
        if self.layer < -1:
            raise ValueError(f"expected a layer from 0, or -1 for the encoder's own output, got {self.layer}")
        if self.reads == "decoder" and self.layer != -1:
            raise ValueError(f"the decoder reads the encoder's own output, expected layer -1, got {self.layer}")


@dataclass(frozen=True, eq=False)
class Features:
    """What was heard in one waveform."""

    frames: Tensor  # [N, W] float32
    transcript: str | None = None  # what the recogniser's decoder wrote, where it was asked
    tokens: list[int] = field(default_factory=list)  # of it, the recogniser's own
    sure: bool = True  # whether the recogniser believes it

    @staticmethod
    def joined(pieces: Sequence[Features]) -> Features:
        """Of the pieces of a sound, without tokens."""
        written = [piece.transcript for piece in pieces if piece.transcript]
        transcript = None if all(piece.transcript is None for piece in pieces) else " ".join(written)
        return Features(torch.cat([p.frames for p in pieces]), transcript, sure=all(p.sure for p in pieces))


class Ears(nn.Module):
    """A pretrained speech encoder, frozen unless it is to learn, and always in evaluation mode.

    Waveforms are read one after the other, so those of a batch do not change one another: padding them to one length would
    cost a CPU more than it saves.
    """

    def __init__(self, settings: EncoderSettings | None = None, trainable: bool = False) -> None:
        """
        Raises:
            VoicegraftError: the model is not there, not fetched, of another kind, damaged, or has no such layer.
        """
        super().__init__()
        self.settings = settings = settings or EncoderSettings()
        if trainable and settings.reads == "decoder":
            raise VoicegraftError(
                "nothing learns through the words that the decoder chose: let the ears read the encoder"
            )
        folder = model_folder(settings.model)
        self.encoder = SpeechEncoder.from_pretrained(folder, None if settings.layer < 0 else settings.layer)
        self.decoder = WhisperDecoder.from_pretrained(folder) if settings.reads == "decoder" else None
        self.sample_rate = self.encoder.sample_rate  # Hz
        self.width = self.encoder.width
        self.frames_per_sec = self.sample_rate / self.encoder.hop  # of the encoder
        self.encoder.model.requires_grad_(trainable)

    def train(self, mode: bool = True) -> Ears:
        """Stays as it is: noise in its layers is for its own pretraining."""
        return super().train(False)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over the weights as they were loaded and over how they are used; the same wherever they came from."""
        used = {key: value for key, value in vars(self.settings).items() if key != "model"}
        return hashlib.sha256((fingerprint(self.state_dict()) + json.dumps(used)).encode()).hexdigest()[:16]

    def forward(self, waveforms: Sequence[Tensor]) -> list[Features]:
        """Each ``[T]`` in [-1, 1] at ``sample_rate`` -> ``[T // hop, W]``, or a state per token of the transcript.

        Sound that is longer than the model's window is read a window at a time; at the end up to 20 ms may be left over.

        Raises:
            VoicegraftError: a waveform is shorter than 50 ms, or not one-dimensional.
        """
        return [self._hear(waveform) for waveform in waveforms]

    def check(self, waveform: Tensor) -> None:
        """Raises VoicegraftError: it is shorter than 50 ms, or not one-dimensional."""
        if waveform.ndim != 1:
            raise VoicegraftError(
                f"expected one channel of sound [T], got {tuple(waveform.shape)}; mix the channels first"
            )
        if len(waveform) < SHORTEST_SEC * self.sample_rate:
            raise VoicegraftError(
                f"expected at least {SHORTEST_SEC * 1000:.0f} ms of sound, got {len(waveform) / self.sample_rate * 1000:.0f} ms"
            )

    def _hear(self, waveform: Tensor) -> Features:
        self.check(waveform)
        if self.decoder is None:
            return Features(self._frames(waveform[None])[0])
        return Features.joined([self.write(piece) for piece in waveform.split(self.window)])

    @property
    def window(self) -> int:
        """Samples that the decoder hears at a time."""
        return (self.encoder.reader.window or 0) * self.encoder.hop  # Whisper's is never 0

    def write(self, piece: Tensor, draft: Sequence[int] = ()) -> Features:
        """What the decoder says to a piece ``[T]`` of at most ``window`` samples.

        Args:
            draft: tokens that it said to a part of the piece; they save time and change nothing.
        """
        assert self.decoder is not None
        written = self.decoder.transcribe(self._encoded(piece[None]), draft)
        # What it writes in brackets is no speech, or none that it understands.
        says = not written.text or any(map(str.isalnum, re.sub(r"\[.*?\]|\(.*?\)", "", written.text)))
        return Features(written.states, written.text, written.tokens, says and written.log_prob > SURE_LOG_PROB)

    def _encoded(self, piece: Tensor) -> Tensor:
        """``[1, T]`` and the silence that the decoder needs behind it -> ``[1, N, W]``."""
        own, window = piece.shape[-1] // self.encoder.hop, self.encoder.reader.window or 0
        tail = self.settings.tail_sec
        if tail < 0:
            return self.encoder.encode(piece, window)
        least = min(window, own + round(max(tail, DECODER_TAIL_SEC) * self.frames_per_sec))
        heard = min(least, own + round(tail * self.frames_per_sec))
        if least > self._silence.shape[1]:
            return self.encoder.encode(piece, least)
        return torch.cat([self.encoder.encode(piece, heard), self._silence[:, heard:least]], 1)

    @cached_property
    def _silence(self) -> Tensor:
        """Encoded, ``[1, N, W]``."""
        num_frames = min(round(_SPAN_SEC * self.frames_per_sec), self.encoder.reader.window or 0)
        nothing = torch.zeros(1, self.encoder.hop, device=next(self.parameters()).device)
        return self.encoder.encode(nothing, num_frames)

    def _frames(self, samples: Tensor) -> Tensor:
        own = self.encoder.reader.window
        window, tail = own or round(_WINDOW_SEC * self.frames_per_sec), 0
        if own is None or self.settings.tail_sec >= 0:
            tail = 0 if own is None else min(round(self.settings.tail_sec * self.frames_per_sec), own - 1)
            window = min(window - tail, samples.shape[-1] // self.encoder.hop)
        return self.encoder.in_windows(samples, window, tail)


def model_folder(model: str) -> Path:
    """Where a speech model lies: a part's name goes before a folder's, a folder's before one on the Hub.

    Raises:
        VoicegraftError: it is nowhere, or a part that was not fetched: says how to get it.
    """
    return find_part(model) if model in known_parts() else resolve(model)
