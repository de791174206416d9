"""Vocoder: acoustic codes -> waveform, causal, a neural source-filter model with an inverse-STFT at its end.

Causal convolutions run at the token rate and then at twice that. For every 10 ms they give a pitch and three curves over
frequency: how loud the harmonics are, how they are shifted in phase, and how loud the noise is. A pulse train of that
pitch and a noise are cut into overlapping windows, filtered by these curves as spectra, and added up again (neural
homomorphic vocoder, Liu et al. 2020, with an inverse-STFT as in Vocos, arXiv 2306.00814). Because the pulses bring the
phase, spectral losses alone train it a long way, which is what a CPU can afford; discriminators refine it.

A sample is final once every window over it has come, so the sound lags the codes by ``delay`` samples and nothing that
was handed out ever changes. Streaming state is a value: ``step(latents, state) -> (samples, state)``; ``forward`` is the same
computation in one go, from codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.core.artifacts import Pretrained
from voicegraft.tokenizers.base import FrameDecoder

NOISE_LENGTH = 1 << 16  # samples of the noise, which then repeats: the same codes always sound the same


MOST_DILATION = 10_000  # frames


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
    num_fft: int = 960  # samples of a window; a multiple of hop / 2
    num_bands: int = 128  # points of a curve over frequency
    middle_pitch: float = 200.0  # Hz; pitches are predicted relative to it
    codec: str = ""  # fingerprint of the codec whose codes it understands

    def __post_init__(self) -> None:
        sizes = (
            self.sample_rate,
            self.hop,
            self.num_codebooks,
            self.codebook_size,
            self.code_width,
            self.width,
            self.num_fft,
        )
        if min(*sizes, self.num_bands, *self.slow_dilations, *self.fast_dilations, self.middle_pitch) <= 0:
            raise ValueError("sizes, rates and dilations must be positive")
        if max((*self.slow_dilations, *self.fast_dilations), default=1) > MOST_DILATION:
            raise ValueError(f"dilations must be at most {MOST_DILATION} frames")
        if self.hop % 2 or self.num_fft % (self.hop // 2):
            raise ValueError(f"num_fft must be a multiple of half the hop, got {self.num_fft} and {self.hop}")

    @property
    def frame(self) -> int:
        """Samples between windows."""
        return self.hop // 2

    @property
    def delay(self) -> int:
        """Samples by which the sound lags the codes."""
        return self.num_fft - self.frame


@dataclass(frozen=True)
class VocoderState:
    """Everything a stream carries from step to step."""

    convolutions: tuple[Tensor, ...]  # last inputs of each convolution
    source: Tensor  # [B, 2, num_fft - frame] last pulses and noise
    phase: Tensor  # [B] of the pulse train, in periods
    noise_position: int
    tail: Tensor  # [B, num_fft - frame] sound that waits for further windows
    lead: int  # samples still to cut off at the beginning


class StreamConv(nn.Conv1d):
    """Causal convolution over ``[B, D, T]``; the state is the last inputs it still needs."""

    @property
    def reach(self) -> int:
        return (self.kernel_size[0] - 1) * self.dilation[0]

    def start(self, batch: int) -> Tensor:
        return self.weight.new_zeros(batch, self.in_channels, self.reach)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([state, x], -1)
        return super().forward(x), x[..., x.shape[-1] - self.reach :]


class VocoderBlock(nn.Module):
    """Residual: per-frame norm -> causal convolution to twice the width -> GELU -> pointwise back, scaled."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.spread = StreamConv(width, 2 * width, 3, dilation=dilation)
        self.mix = nn.Conv1d(2 * width, width, 1)
        self.scale = nn.Parameter(torch.full((width, 1), 0.3))

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.spread.step(self.norm(x.transpose(1, 2)).transpose(1, 2), state)
        return x + self.scale * self.mix(F.gelu(y)), state


class Vocoder(Pretrained, FrameDecoder):
    KIND, CONFIG, STORED_AS = "vocoder", VocoderConfig, torch.int8
    codebooks: Tensor  # [K, N, code_width], the codec's
    window: Tensor
    noise: Tensor
    curves: Tensor  # [num_bands, num_fft // 2 + 1], interpolates bands to bins

    def __init__(self, config: VocoderConfig):
        super().__init__()
        c = self.config = config
        self.sample_rate, self.hop = c.sample_rate, c.hop
        self.register_buffer("codebooks", torch.zeros(c.num_codebooks, c.codebook_size, c.code_width))
        self.register_buffer("window", torch.hann_window(c.num_fft), persistent=False)
        self.register_buffer("noise", _fixed_noise(), persistent=False)
        self.register_buffer("curves", _interpolation(c), persistent=False)
        self.enter = StreamConv(c.code_width, c.width, 3)
        self.slow = nn.ModuleList(VocoderBlock(c.width, d) for d in c.slow_dilations)
        self.widen = nn.Conv1d(c.width, 2 * c.width, 1)
        self.fast = nn.ModuleList(VocoderBlock(c.width, d) for d in c.fast_dilations)
        self.norm = nn.LayerNorm(c.width)
        self.head = nn.Linear(c.width, 3 * c.num_bands + 1)

    @property
    def codec(self) -> str:
        return self.config.codec

    def forward(self, codes: Tensor, log_pitch: Tensor | None = None, noise_position: int = 0) -> tuple[Tensor, Tensor]:
        """Everything in one go.

        Args:
            codes: ``[B, K, T]``.
            log_pitch: what the pulses follow instead of the predicted pitch, natural log of Hz ``[B, 2 T]``; NaN leaves the
                prediction. Frame ``i`` holds the pitch ``2 frame`` samples after the start of window step ``i`` (see
                ``pitch_offset``). Training passes the truth, so that the harmonics lie where the recording's do.

        Returns:
            Samples ``[B, T * hop]`` in time with the codes, and the predicted log pitch ``[B, 2 T]``.
        """
        c = self.config
        state = self.start(len(codes), noise_position)
        samples, state, predicted = self._advance(self.latents(codes), state, log_pitch)
        samples = torch.cat([samples, self.finish(state)], -1)
        return samples[:, : codes.shape[-1] * c.hop], predicted

    @property
    def ahead(self) -> int:
        """Frames that must follow a frame before all its sound is out."""
        return math.ceil(self.config.delay / 2 / self.config.hop)

    @property
    def pitch_offset(self) -> int:
        """Samples from the start of a window step's own 10 ms to the time whose pitch it predicts.

        A window reaches beyond its own 10 ms. Its pulses must be there already, so the pitch is predicted that far ahead.
        """
        return self.config.delay // 2 + self.config.frame // 2

    def start(self, batch: int = 1, noise_position: int = 0) -> VocoderState:
        """State before the first code."""
        c = self.config
        like = self.head.weight
        convolutions = [self.enter, *(block.spread for block in self._blocks())]
        return VocoderState(
            convolutions=tuple(convolution.start(batch) for convolution in convolutions),
            source=like.new_zeros(batch, 2, c.delay),
            phase=like.new_zeros(batch, dtype=torch.float64),
            noise_position=noise_position,
            tail=like.new_zeros(batch, c.delay),
            lead=c.delay // 2,
        )

    def latents(self, codes: Tensor) -> Tensor:
        """Codes ``[B, K, T]`` -> what they stand for, the sum of their codebook entries, ``[B, code_width, T]``."""
        return torch.stack([F.embedding(codes[:, k], book) for k, book in enumerate(self.codebooks)]).sum(0).mT

    def step(self, latents: Tensor, state: VocoderState) -> tuple[Tensor, VocoderState]:
        """Next frames ``[B, code_width, T]`` -> the samples that became final ``[B, <= T * hop]``, new state."""
        samples, state, _ = self._advance(latents, state)
        return samples, state

    def finish(self, state: VocoderState) -> Tensor:
        """The samples that were still waiting for further windows ``[B, T]``; after them the speech is over."""
        return state.tail[:, state.lead : self.config.delay // 2]

    def _advance(
        self, latents: Tensor, state: VocoderState, log_pitch: Tensor | None = None
    ) -> tuple[Tensor, VocoderState, Tensor]:
        h, first = self.enter.step(latents, state.convolutions[0])
        convolutions = [first]
        for i, (block, past) in enumerate(zip(self._blocks(), state.convolutions[1:], strict=True)):
            if i == len(self.slow):  # every frame becomes two neighbours
                wide = self.widen(h)
                h = wide.reshape(len(h), 2, -1, h.shape[-1]).permute(0, 2, 3, 1).flatten(2)
            h, past = block.step(h, past)
            convolutions.append(past)
        out = self.head(self.norm(h.mT))
        with torch.autocast(out.device.type, enabled=False):  # phases need all their digits
            *bands, offset = out.float().split([self.config.num_bands] * 3 + [1], -1)
            predicted = math.log(self.config.middle_pitch) + offset[..., 0]
            used = (
                predicted.detach()
                if log_pitch is None
                else torch.where(log_pitch.isnan(), predicted.detach(), log_pitch)
            )
            # Steps of 3 cents: rounding errors, which differ with the size of a chunk, must not add up in the phase.
            used = torch.round(used * 512) / 512
            pulses, phase = self._pulses(used, state.phase)
            noise, noise_position = self._noise(pulses, state.noise_position)
            source = torch.cat([state.source, torch.stack([pulses, noise], 1)], -1)
            windows = self._filter(source, *bands)
            samples, tail = self._overlap_add(windows, state.tail)
        cut = min(state.lead, samples.shape[-1])
        state = VocoderState(
            convolutions=tuple(convolutions),
            source=source[..., source.shape[-1] - self.config.delay :],
            phase=phase,
            noise_position=noise_position,
            tail=tail,
            lead=state.lead - cut,
        )
        return samples[:, cut:], state, predicted

    def _pulses(self, log_pitch: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
        """Log pitch ``[B, F]`` -> all harmonics below the highest frequency, equally loud, ``[B, F * frame]``, and the phase
        after them. The sum of K cosines has a closed form, the Dirichlet kernel."""
        c = self.config
        pitch = log_pitch.clamp(math.log(50.0), math.log(600.0)).exp()
        num_harmonics = torch.floor(0.48 * c.sample_rate / pitch).repeat_interleave(c.frame, 1)
        steps = (pitch / c.sample_rate).double().repeat_interleave(c.frame, 1)
        periods = phase[:, None] + steps.cumsum(1)
        angle = (2 * math.pi * (periods % 1.0)).float()
        below = torch.sin(angle / 2)
        near = below.abs() < 1e-3
        kernel = torch.sin((num_harmonics + 0.5) * angle) / torch.where(near, torch.ones_like(below), 2 * below) - 0.5
        pulses = torch.where(near, num_harmonics, kernel) / (num_harmonics / 2).sqrt()
        return pulses, periods[:, -1] % 1.0

    def _noise(self, like: Tensor, position: int) -> tuple[Tensor, int]:
        index = torch.arange(position, position + like.shape[-1], device=like.device) % NOISE_LENGTH
        return self.noise[index].expand(len(like), -1), (position + like.shape[-1]) % NOISE_LENGTH

    def _filter(self, source: Tensor, harmonic: Tensor, shift: Tensor, noisy: Tensor) -> Tensor:
        """Source ``[B, 2, F * frame + delay]`` and curves ``[B, F, num_bands]`` -> filtered windows ``[B, F, num_fft]``."""
        c = self.config
        spectra = torch.fft.rfft(source.unfold(-1, c.num_fft, c.frame) * self.window)  # [B, 2, F, bins]
        loudness = torch.exp((harmonic @ self.curves - 4.0).clamp(max=4.0))
        breath = torch.exp((noisy @ self.curves - 5.0).clamp(max=4.0))
        voiced = spectra[:, 0] * torch.polar(loudness, shift @ self.curves)
        return torch.fft.irfft(voiced + spectra[:, 1] * breath, c.num_fft) * self.window

    def _overlap_add(self, windows: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Adds windows onto the tail; splits off what is final."""
        c = self.config
        total = F.fold(
            windows.mT,
            output_size=(1, c.frame * (windows.shape[1] - 1) + c.num_fft),
            kernel_size=(1, c.num_fft),
            stride=(1, c.frame),
        )[:, 0, 0]
        # Windows were applied twice, before and after: squared Hann windows add up to 3/8 num_fft / frame.
        total = total * (8 / 3 * c.frame / c.num_fft)
        total = torch.cat([total[:, : tail.shape[-1]] + tail, total[:, tail.shape[-1] :]], -1)
        final = c.frame * windows.shape[1]
        return total[:, :final], total[:, final:]

    def _blocks(self) -> list[VocoderBlock]:
        return [m for m in (*self.slow, *self.fast) if isinstance(m, VocoderBlock)]


def _fixed_noise() -> Tensor:
    return torch.randn(NOISE_LENGTH, generator=torch.Generator().manual_seed(0))


def _interpolation(c: VocoderConfig) -> Tensor:
    """Linear interpolation ``[num_bands, bins]`` from points that lie as dense as hearing resolves frequency."""
    bins = torch.arange(c.num_fft // 2 + 1) * c.sample_rate / c.num_fft
    scale = torch.asinh(bins / 700.0)  # linear below some hundred Hz, logarithmic above
    position = scale / scale[-1] * (c.num_bands - 1)
    return (1 - (position[None] - torch.arange(c.num_bands)[:, None]).abs()).clamp(min=0)
