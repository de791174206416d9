"""Acoustic LM: semantic tokens in, acoustic codes out, in the voice that is asked for.

Where both token streams run at the same rate, frame ``t`` of the one is frame ``t`` of the other; at other rates an acoustic
frame belongs to the semantic token in its middle (``FrameRateRatio``). So alignment is free. A causal transformer with a
sliding window reads, per frame, the semantic tokens around it (a few ahead), the voice, and, unless told to forget it, what
it made of the frame before. The K codes of a frame are drawn one after the other by a light head that sees the sum of the
entries drawn so far: residual codes refine one another, and drawing them independently would lose that.

Streaming state is a value: ``step`` turns the next semantic frame and the state into one frame of codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.core.artifacts import Pretrained
from voicegraft.tokenizers.base import TokenizerSpec

T = TypeVar("T", int, Tensor, np.ndarray)


@dataclass(frozen=True)
class FrameRateRatio:
    """``semantic_tokens`` last as long as ``acoustic_frames``."""

    semantic_tokens: int = 1
    acoustic_frames: int = 1

    @staticmethod
    def of(semantic: TokenizerSpec, codec: TokenizerSpec) -> FrameRateRatio:
        ratio = Fraction(semantic.sample_rate, semantic.hop) / Fraction(codec.sample_rate, codec.hop)
        return FrameRateRatio(ratio.numerator, ratio.denominator)

    def token_of(self, frames: T) -> T:
        """Numbers of acoustic frames -> numbers of the semantic tokens in their middles."""
        return (2 * frames + 1) * self.semantic_tokens // (2 * self.acoustic_frames)

    def num_frames(self, num_tokens: int) -> int:
        """The acoustic frames whose middle lies in the first so many semantic tokens."""
        return (2 * num_tokens * self.acoustic_frames - self.semantic_tokens - 1) // (2 * self.semantic_tokens) + 1


@dataclass(frozen=True)
class AcousticConfig:
    semantic_vocab: int = 1225  # semantic codes
    voices: tuple[str, ...] = ("default",)
    voice_width: int = 64  # of the vector that tells a voice
    num_codebooks: int = 8  # K
    codebook_size: int = 256  # N
    code_width: int = 64  # of a codebook entry
    width: int = 192  # D
    num_layers: int = 4
    num_heads: int = 4
    mlp_width: int = 512
    head_width: int = 256  # hidden units of the code head
    past: int = 2  # semantic frames seen before the current one
    ahead: int = 3  # semantic frames seen after it: the look-ahead of streaming
    window: int = 100  # frames of its own past that it attends to
    dropout: float = 0.0  # of what each layer adds, in training
    semantic: str = ""  # fingerprint of the semantic tokenizer
    codec: str = ""  # fingerprint of the codec
    voice_encoder: str = ""  # fingerprint of what makes vectors of recordings
    semantic_tokens: int = 1  # so many of them ...
    acoustic_frames: int = 1  # ... last as long as so many frames: the ratio of the two rates in lowest terms

    @property
    def ratio(self) -> FrameRateRatio:
        return FrameRateRatio(self.semantic_tokens, self.acoustic_frames)


@dataclass(frozen=True)
class AcousticState:
    """Everything a stream carries from frame to frame."""

    position: int  # frames made
    keys: tuple[Tensor, ...]  # per layer [B, H, <= window, D / H]
    values: tuple[Tensor, ...]
    previous: Tensor  # [B, code_width], the last frame: the sum of its entries


class Layer(nn.Module):
    """Pre-norm attention and SwiGLU."""

    def __init__(self, c: AcousticConfig):
        super().__init__()
        self.num_heads = c.num_heads
        self.dropout = nn.Dropout(c.dropout)
        self.attention_norm = nn.RMSNorm(c.width)
        self.qkv = nn.Linear(c.width, 3 * c.width, bias=False)
        self.out = nn.Linear(c.width, c.width, bias=False)
        self.mlp_norm = nn.RMSNorm(c.width)
        self.gate_up = nn.Linear(c.width, 2 * c.mlp_width, bias=False)
        self.down = nn.Linear(c.mlp_width, c.width, bias=False)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[B, T, D]`` -> rotated queries and keys, and values, each ``[B, H, T, D / H]``."""
        q, k, v = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return _rotate(q, cos, sin), _rotate(k, cos, sin), v

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, -1)
        return x + self.dropout(self.down(F.silu(gate) * up))


class AcousticLM(Pretrained):
    KIND, CONFIG, STORED_AS = "acoustic-lm", AcousticConfig, torch.int8
    codebooks: Tensor  # [K, N, code_width], the codec's

    def __init__(self, config: AcousticConfig):
        super().__init__()
        c = self.config = config
        self.register_buffer("codebooks", torch.zeros(c.num_codebooks, c.codebook_size, c.code_width))
        self.semantic = nn.Embedding(c.semantic_vocab + 1, c.width)  # the last row stands for "beyond the ends"
        self.around = nn.Conv1d(c.width, c.width, c.past + 1 + c.ahead)
        self.voices = nn.Embedding(len(c.voices), c.voice_width)  # vectors of the named voices
        self.voice = nn.Linear(c.voice_width, c.width, bias=False)
        self.history = nn.Linear(c.code_width, c.width)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.num_layers))
        self.norm = nn.RMSNorm(c.width)
        self.head_in = nn.Linear(c.width, c.num_codebooks * c.head_width)
        self.head_sum = nn.Parameter(torch.randn(c.num_codebooks, c.code_width, c.head_width) * c.code_width**-0.5)
        self.head_out = nn.Parameter(torch.randn(c.num_codebooks, c.head_width, c.codebook_size) * c.head_width**-0.5)

    @property
    def beyond(self) -> int:
        """The semantic id that stands for frames before the start and after the end."""
        return self.config.semantic_vocab

    def forward(
        self,
        semantic: Tensor,
        codes: Tensor,
        voice: Tensor,
        history: Tensor | None = None,
        tokens: Tensor | None = None,
    ) -> Tensor:
        """Logits ``[B, K, T, N]`` with the true codes as past.

        Args:
            semantic: ``[B, S]``; codes: ``[B, K, T]``; voice: vectors ``[B, voice_width]``.
            tokens: which semantic token each frame belongs to, ``[B, T]``; from the beginning where None.
            history: what to believe of the frames before, ``[B, T, code_width]`` (frame ``t`` holds frame ``t - 1``);
                the sums of the true entries where None. Training passes damaged ones, as generation will.
        """
        if history is None:
            history = self.shifted_sums(codes)
        c = self.config
        padded = F.pad(semantic, (c.past, c.ahead), value=self.beyond)
        if tokens is None:
            tokens = c.ratio.token_of(torch.arange(codes.shape[-1], device=codes.device)).expand(len(codes), -1)
        near = self._around(padded)
        if c.ratio != FrameRateRatio():
            near = near.gather(1, tokens.clamp(max=near.shape[1] - 1)[..., None].expand(-1, -1, c.width))
        x = near + self.voice(voice)[:, None] + self.history(history)
        positions = torch.arange(x.shape[1], device=x.device)
        cos, sin = _angles(positions, c.width // c.num_heads)
        distance = positions[:, None] - positions[None]
        mask = (distance >= 0) & (distance < c.window)
        for layer in self._layers():
            q, k, v = layer.project(x, cos, sin)
            x = layer.finish(x, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
        hidden = self.head_in(self.norm(x)).unflatten(-1, (c.num_codebooks, -1)).permute(2, 0, 1, 3)  # [K, B, T, H]
        entries = self.entries(codes)  # [K, B, T, W]
        drawn = entries.cumsum(0) - entries  # the sum before each codebook's own entry
        hidden = F.gelu(hidden + torch.einsum("kbtw,kwh->kbth", drawn, self.head_sum))
        return torch.einsum("kbth,khn->bktn", hidden, self.head_out)

    def _around(self, semantic: Tensor) -> Tensor:
        """Padded ids ``[B, past + N + ahead]`` -> what N tokens with their neighbours say, ``[B, N, D]``."""
        around: Tensor = self.around(self.semantic(semantic).mT).mT
        return around

    def entries(self, codes: Tensor) -> Tensor:
        """Codes ``[B, K, T]`` -> codebook entries ``[K, B, T, code_width]``."""
        return torch.stack([F.embedding(codes[:, k], book) for k, book in enumerate(self.codebooks)])

    def shifted_sums(self, codes: Tensor) -> Tensor:
        """``[B, K, T]`` -> ``[B, T, code_width]``: at frame ``t`` the sum of the entries of frame ``t - 1``."""
        return F.pad(self.entries(codes).sum(0)[:, :-1], (0, 0, 1, 0))

    def _layers(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def named_voice(self, name: str) -> np.ndarray:
        """The vector of a voice, ``[voice_width]``."""
        row = self.voices.weight[self.config.voices.index(name)]
        return np.asarray(row.detach().float().cpu())

    def start(self, batch: int = 1) -> AcousticState:
        c = self.config
        empty = self.codebooks.new_zeros(batch, c.num_heads, 0, c.width // c.num_heads)
        zeros = self.codebooks.new_zeros(batch, c.code_width)
        return AcousticState(0, (empty,) * c.num_layers, (empty,) * c.num_layers, zeros)

    def step(
        self,
        semantic: Tensor,
        voice: Tensor,
        state: AcousticState,
        temperature: float = 1.0,
        uniform: Tensor | None = None,
        forget: bool = False,
        blend: bool = False,
    ) -> tuple[Tensor, AcousticState]:
        """One frame.

        Args:
            semantic: ``[B, past + 1 + ahead]`` ids around the frame, ``beyond`` where there is none.
            voice: vectors ``[B, voice_width]``.
            temperature: 0 takes the likeliest code.
            uniform: random numbers ``[B, K, N]`` in [0, 1) that the codes are drawn by; the likeliest code where None.
            forget: leaves the frame before out, as training often does; what remains is the semantic context.
            blend: the frame is not the sum of the drawn entries but of every codebook's mean entry under the softmax at
                ``temperature``. The finer codebooks are nearly unpredictable: one of their entries is noise, the mean is not.

        Returns:
            Codes ``[B, K]`` and the state after them, whose ``previous`` is the frame itself.
        """
        c = self.config
        previous = torch.zeros_like(state.previous) if forget else state.previous
        x = self._around(semantic) + (self.voice(voice) + self.history(previous))[:, None]
        cos, sin = _angles(torch.tensor([state.position], device=x.device), c.width // c.num_heads)
        keys, values = [], []
        for i, layer in enumerate(self._layers()):
            q, k, v = layer.project(x, cos, sin)
            keys.append(torch.cat([state.keys[i], k], 2)[:, :, -c.window :])
            values.append(torch.cat([state.values[i], v], 2)[:, :, -c.window :])
            x = layer.finish(x, F.scaled_dot_product_attention(q, keys[i], values[i]))
        hidden = self.head_in(self.norm(x[:, 0])).unflatten(-1, (c.num_codebooks, -1))  # [B, K, H]
        total = torch.zeros_like(state.previous)
        noise = None
        if uniform is not None:  # Gumbel-max: the likeliest after this noise is a draw from the softmax
            noise = -temperature * torch.log(-torch.log(uniform.clamp(min=1e-9)))  # [B, K, N]
        codes = []
        for book in range(c.num_codebooks):
            logits = F.gelu(hidden[:, book] + total @ self.head_sum[book]) @ self.head_out[book]
            code = (logits if noise is None else logits + noise[:, book]).argmax(-1)
            codes.append(code)
            if blend and temperature > 0:
                total = total + torch.softmax(logits / temperature, -1) @ self.codebooks[book]
            else:
                total = total + F.embedding(code, self.codebooks[book])
        state = AcousticState(state.position + 1, tuple(keys), tuple(values), total)
        return torch.stack(codes, 1), state

    @torch.inference_mode()
    def next_frame(
        self,
        semantic: Sequence[int],
        voice: np.ndarray,
        state: AcousticState,
        temperature: float,
        uniform: np.ndarray | None,
        forget: bool,
        blend: bool,
    ) -> tuple[np.ndarray, AcousticState]:
        """``step`` for one stream, on arrays: returns the frame ``[code_width]`` and the state after it."""
        device = self.codebooks.device
        ids = torch.tensor([semantic], device=device)
        noise = None if uniform is None else torch.from_numpy(uniform)[None].to(device)
        told = torch.from_numpy(voice)[None].to(device)
        _, state = self.step(ids, told, state, temperature, noise, forget, blend)
        return state.previous[0].float().cpu().numpy(), state


def _angles(positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Rotary angles (Su et al. 2021): cosines and sines ``[T, width / 2]``."""
    rates = 1000.0 ** (-torch.arange(0, width, 2, device=positions.device) / width)
    angles = positions[:, None] * rates
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1).type_as(x)
