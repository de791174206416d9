"""Vocoder: acoustic codes -> waveform, causal, with an inverse-STFT head.

Causal convolutions run at the token rate and then at twice that; a linear head writes one complex spectrum per 10 ms,
and overlap-add makes the samples (Vocos, arXiv 2306.00814, made causal). A sample is final once every window over it has
come, so the sound lags the codes by ``delay`` samples and nothing that was handed out ever changes.

Streaming state is a value: ``step(codes, state) -> (samples, state)``; ``forward`` is the same computation in one go.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.core.artifacts import load_artifact, save_artifact


@dataclass(frozen=True)
class VocoderConfig:
    sample_rate: int = 24_000  # Hz
    hop: int = 480  # samples per code frame
    num_codebooks: int = 8  # K
    codebook_size: int = 256  # entries each
    code_width: int = 64  # of a codebook entry
    width: int = 192  # channels
    slow_dilations: tuple[int, ...] = (1, 2, 4)  # blocks at the code rate
    fast_dilations: tuple[int, ...] = (1, 2, 4, 1, 2)  # blocks at twice the code rate
    num_fft: int = 960  # samples of a synthesis window; a multiple of hop / 2
    codec: str = ""  # fingerprint of the codec whose codes it understands

    def __post_init__(self) -> None:
        if self.hop % 2 or self.num_fft % (self.hop // 2):
            raise ValueError(f"num_fft must be a multiple of half the hop, got {self.num_fft} and {self.hop}")

    @property
    def delay(self) -> int:
        """Samples by which the sound lags the codes."""
        return self.num_fft - self.hop // 2


State = list[Tensor]


class StreamConv(nn.Conv1d):
    """Causal convolution over ``[B, D, T]``; the state is the last inputs it still needs."""

    @property
    def reach(self) -> int:
        return (self.kernel_size[0] - 1) * self.dilation[0]

    def start(self, batch: int, like: Tensor) -> Tensor:
        return like.new_zeros(batch, self.in_channels, self.reach)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([state, x], -1)
        return super().forward(x), x[..., x.shape[-1] - self.reach :]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.reach, 0)))


class VocoderBlock(nn.Module):
    """Residual: per-frame norm -> causal convolution to twice the width -> GELU -> pointwise back, scaled."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.spread = StreamConv(width, 2 * width, 3, dilation=dilation)
        self.mix = nn.Conv1d(2 * width, width, 1)
        self.scale = nn.Parameter(torch.full((width, 1), 0.3))

    def _norm(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.mix(F.gelu(self.spread(self._norm(x))))

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.spread.step(self._norm(x), state)
        return x + self.scale * self.mix(F.gelu(y)), state


class Vocoder(nn.Module):
    codebooks: Tensor  # [K, N, code_width], the codec's
    window: Tensor

    def __init__(self, config: VocoderConfig):
        super().__init__()
        c = self.config = config
        self.register_buffer("codebooks", torch.zeros(c.num_codebooks, c.codebook_size, c.code_width))
        self.register_buffer("window", torch.hann_window(c.num_fft), persistent=False)
        self.enter = StreamConv(c.code_width, c.width, 3)
        self.slow = nn.ModuleList(VocoderBlock(c.width, d) for d in c.slow_dilations)
        self.widen = nn.Conv1d(c.width, 2 * c.width, 1)
        self.fast = nn.ModuleList(VocoderBlock(c.width, d) for d in c.fast_dilations)
        self.norm = nn.LayerNorm(c.width)
        self.head = nn.Linear(c.width, c.num_fft + 2)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes ``[B, K, T]`` -> samples ``[B, T * hop]``, in time with the codes (the delay is cut off)."""
        h = self.enter(self._embed(codes))
        for block in self.slow:
            h = block(h)
        h = self._double(h)
        for block in self.fast:
            h = block(h)
        frames = self._frames(h)  # [B, 2 T, num_fft]
        tail = frames.new_zeros(len(frames), self.config.num_fft - self.config.hop // 2)
        samples, tail = self._overlap_add(frames, tail)
        samples = torch.cat([samples, tail], -1)
        # A window lies centred on its 10 ms: the first sample in time is half the overlap into the first window.
        return samples[:, self.config.delay // 2 :][:, : codes.shape[-1] * self.config.hop]

    def start(self, batch: int = 1) -> State:
        """State before the first code."""
        like = self.head.weight
        slow = [block.spread.start(batch, like) for block in self._blocks()]
        tail = like.new_zeros(batch, self.config.delay)
        lead = like.new_full((1,), self.config.delay // 2)  # samples still to cut off at the beginning
        return [self.enter.start(batch, like), *slow, tail, lead]

    def step(self, codes: Tensor, state: State) -> tuple[Tensor, State]:
        """Next codes ``[B, K, T]`` -> the samples that became final ``[B, <= T * hop]``, new state."""
        enter, *blocks, tail, lead = state
        h, enter = self.enter.step(self._embed(codes), enter)
        new: State = [enter]
        for i, block in enumerate(self._blocks()):
            if i == len(self.slow):
                h = self._double(h)
            h, s = block.step(h, blocks[i])
            new.append(s)
        samples, tail = self._overlap_add(self._frames(h), tail)
        cut = min(int(lead), samples.shape[-1])
        return samples[:, cut:], [*new, tail, lead - cut]

    def finish(self, state: State) -> Tensor:
        """The samples that were still waiting for further windows ``[B, T]``; after them the speech is over."""
        *_, tail, lead = state
        return tail[:, int(lead) : self.config.delay - self.config.delay // 2 + int(lead)]

    def _blocks(self) -> list[VocoderBlock]:
        return [m for m in (*self.slow, *self.fast) if isinstance(m, VocoderBlock)]

    def _embed(self, codes: Tensor) -> Tensor:
        return torch.stack([F.embedding(codes[:, k], book) for k, book in enumerate(self.codebooks)]).sum(0).mT

    def _double(self, h: Tensor) -> Tensor:
        """``[B, D, T]`` -> ``[B, D, 2 T]``: every frame becomes two neighbours."""
        h = self.widen(h)
        return h.reshape(len(h), 2, -1, h.shape[-1]).permute(0, 2, 3, 1).flatten(2)

    def _frames(self, h: Tensor) -> Tensor:
        """Hidden frames ``[B, D, T]`` -> windowed signals ``[B, T, num_fft]``."""
        out = self.head(self.norm(h.mT)).float()
        log_magnitude, phase = out.chunk(2, -1)
        spectrum = torch.polar(torch.exp(log_magnitude.clamp(max=6.0)), phase)
        return torch.fft.irfft(spectrum, self.config.num_fft) * self.window

    def _overlap_add(self, frames: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Adds windows half a hop apart onto the tail; splits off what is final."""
        step = self.config.hop // 2
        total = F.fold(
            frames.mT,
            output_size=(1, step * (frames.shape[1] - 1) + self.config.num_fft),
            kernel_size=(1, self.config.num_fft),
            stride=(1, step),
        )[:, 0, 0]
        # Hann windows a quarter apart, seen once in synthesis, add up to num_fft / (2 step).
        total = total * (2 * step / self.config.num_fft)
        total = torch.cat([total[:, : tail.shape[-1]] + tail, total[:, tail.shape[-1] :]], -1)
        final = step * frames.shape[1]
        return total[:, :final], total[:, final:]

    def save(self, folder: Path, provenance: dict[str, object]) -> None:
        save_artifact(folder, "vocoder", self.config, self.state_dict(), provenance, torch.float16)

    @staticmethod
    def load(folder: Path) -> Vocoder:
        artifact = load_artifact(folder, "vocoder", VocoderConfig)
        model = Vocoder(artifact.config)
        model.load_state_dict(artifact.tensors)
        return model.eval().requires_grad_(False)
