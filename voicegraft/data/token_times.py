"""When each token of a known text is said, by the attention of Whisper's decoder (arXiv 2212.04356)."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from voicegraft.core.artifacts import fingerprint
from voicegraft.encoders.listening import Ears, EncoderSettings, model_folder
from voicegraft.encoders.whisper_decoder import WhisperDecoder
from voicegraft.tokenizers.forced_alignment import force_align


class TokenAligner(nn.Module):
    """Times of a backbone's tokens, by a Whisper that is told the text."""

    def __init__(self, recogniser: str, tokenizer: PreTrainedTokenizerBase) -> None:
        """
        Args:
            recogniser: a Whisper, as in ``EncoderSettings.model``, with its decoder.
            tokenizer: of the backbone; it must tell where in the text its tokens are.

        Raises:
            VoicegraftError: the recogniser is not there, or is none.
        """
        super().__init__()
        self.decoder = WhisperDecoder.from_pretrained(model_folder(recogniser))
        self.ears = Ears(EncoderSettings(recogniser))
        self._tokenizer = tokenizer

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the recogniser, and over which of its heads are asked."""
        parts = (self.ears.fingerprint, fingerprint(self.decoder.state_dict()), self.decoder.heads)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    @torch.inference_mode()
    def forward(self, text: str, heard: Tensor) -> np.ndarray:
        """What ``ears`` heard ``[N, W]`` -> ``[M, 3]``: token, and the frames at which it begins and ends.

        A token begins where the one before it ends; silence before the first is its own, that after the last is not.
        """
        read = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        places, attention = self.decoder.attention(heard[None], text)
        counts = force_align(attention.cpu().numpy(), range(len(places) + 1), [False] * (len(places) + 1))
        if counts is None:  # more tokens than frames: nobody speaks like that
            counts = np.full(len(places) + 1, len(heard) / (len(places) + 1))
        characters = [0, *(end for _, end in places)]
        ends = np.interp([end for _, end in read["offset_mapping"]], characters, [0, *np.cumsum(counts)[:-1]])
        ends = np.round(np.maximum.accumulate(ends)).astype(np.int64)
        begins = np.concatenate([[0], ends])[: len(ends)]
        return np.stack([np.asarray(read["input_ids"], np.int64), begins, ends], 1)
