"""The parts of a convolutional decoder, run piece by piece: each keeps exactly what it still needs of the past.

A ``Stage`` turns ``[B, C, T]`` into ``[B, D, T * stride]``, in as many steps as the caller likes, and hands on what is final.
Nothing is computed twice: the parts of a decoder that was never made for streaming, such as convolutions that look ahead,
wait for their inputs instead. All outputs together are those of one call over everything, to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

# Inputs up to which a matrix product is faster: the CPU's convolutions pack the weights anew in every call, which for one
# frame takes up to ten times as long as to use them.
SHORT = 64


class Stage(nn.Module):
    stride = 1  # outputs per input

    def start(self, batch: int, like: Tensor) -> Any:
        """The state before the first input, on the device and in the type of ``like``."""
        return None

    def step(self, x: Tensor, state: Any, last: bool) -> tuple[Tensor, Any]:
        """Next inputs ``[B, C, T]``, maybe none -> the outputs that became final, maybe none, and the state after them.

        With ``last`` the end follows these inputs and everything that waited comes out.
        """
        raise NotImplementedError

    def needs(self, num_outputs: int) -> int:
        """How many inputs must have come before so many outputs, at least one, are out."""
        return num_outputs


class Each(Stage):
    """Something that works on every time alone."""

    def __init__(self, function: nn.Module):
        super().__init__()
        self.function = function

    def step(self, x: Tensor, state: Any, last: bool) -> tuple[Tensor, Any]:
        return (self.function(x) if x.shape[-1] else x), state


class Recurrent(Stage):
    """An LSTM beside a connection that skips it."""

    def __init__(self, lstm: nn.LSTM):
        super().__init__()
        self.lstm = lstm

    def step(self, x: Tensor, state: Any, last: bool) -> tuple[Tensor, Any]:
        if not x.shape[-1]:
            return x, state
        y, state = self.lstm(x.permute(2, 0, 1), state)
        return x + y.permute(1, 2, 0), state


@dataclass(frozen=True)
class ConvState:
    held: Tensor  # [B, C, *] inputs that are still needed
    begun: bool  # what stands before the first input is among them


class Conv(Stage):
    """A convolution of stride 1 with padding on both sides.

    left: inputs that stand before the first one: zeros, or with ``reflect`` the first inputs mirrored. Then the first output
        must wait for as many inputs.
    right: zeros after the last input, which is how far the convolution looks ahead.
    """

    def __init__(self, conv: nn.Conv1d, left: int, right: int, reflect: bool):
        super().__init__()
        self.conv, self.left, self.right, self.reflect = _unparametrized(conv), left, right, reflect and left > 0

    def start(self, batch: int, like: Tensor) -> ConvState:
        held = 0 if self.reflect else self.left
        return ConvState(like.new_zeros(batch, self.conv.in_channels, held), begun=not self.reflect)

    def step(self, x: Tensor, state: ConvState, last: bool) -> tuple[Tensor, ConvState]:
        held, begun = torch.cat([state.held, x], -1), state.begun
        if not begun and (last or held.shape[-1] > self.left):
            # Inputs that are too few to be mirrored count as followed by zeros.
            enough = F.pad(held, (0, max(0, self.left + 1 - held.shape[-1])))
            held, begun = torch.cat([enough[..., 1 : self.left + 1].flip(-1), held], -1), True
        if last:
            held = F.pad(held, (0, self.right))
        c = self.conv
        final = held.shape[-1] - c.dilation[0] * (c.kernel_size[0] - 1) if begun else 0
        if final <= 0:
            return held.new_zeros(len(held), c.out_channels, 0), ConvState(held, begun)
        return _convolve(c, held), ConvState(held[..., final:], begun)

    def needs(self, num_outputs: int) -> int:
        return max(num_outputs + self.right, self.left + 1 if self.reflect else 0)


@dataclass(frozen=True)
class WidenState:
    tail: Tensor  # [B, C, kernel - stride] outputs to which the next inputs will add
    cut: int  # outputs still to cut off at the beginning


class Widen(Stage):
    """A transposed convolution, of whose outputs some are cut off at the beginning and at the end."""

    def __init__(self, conv: nn.ConvTranspose1d, cut_left: int, cut_right: int):
        super().__init__()
        self.conv, self.cut_left, self.cut_right = _unparametrized(conv), cut_left, cut_right
        self.stride = conv.stride[0]
        self.overlap = conv.kernel_size[0] - self.stride

    def start(self, batch: int, like: Tensor) -> WidenState:
        return WidenState(like.new_zeros(batch, self.conv.out_channels, self.overlap), self.cut_left)

    def step(self, x: Tensor, state: WidenState, last: bool) -> tuple[Tensor, WidenState]:
        c, total = self.conv, state.tail
        if x.shape[-1]:
            total = _spread(c, x)
            total = torch.cat([total[..., : self.overlap] + state.tail, total[..., self.overlap :]], -1)
        final = x.shape[-1] * self.stride
        y = total[..., : total.shape[-1] - self.cut_right if last else final]
        cut = min(state.cut, y.shape[-1])
        y = y[..., cut:] if c.bias is None else y[..., cut:] + c.bias[:, None]
        return y, WidenState(total[..., final:], state.cut - cut)

    def needs(self, num_outputs: int) -> int:
        return math.ceil((num_outputs + self.cut_left) / self.stride)


class Chain(Stage):
    """One stage after the other; the state is all of theirs."""

    def __init__(self, stages: Iterable[Stage]):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.stride = math.prod(stage.stride for stage in self)

    def __iter__(self) -> Any:
        return iter(self.stages)

    def start(self, batch: int, like: Tensor) -> tuple[Any, ...]:
        return tuple(stage.start(batch, like) for stage in self)

    def step(self, x: Tensor, state: tuple[Any, ...], last: bool) -> tuple[Tensor, tuple[Any, ...]]:
        after = []
        for stage, before in zip(self, state, strict=True):
            x, kept = stage.step(x, before, last)
            after.append(kept)
        return x, tuple(after)

    def needs(self, num_outputs: int) -> int:
        for stage in reversed(self.stages):
            num_outputs = stage.needs(num_outputs)  # type: ignore[operator]  # a ModuleList forgets what it holds
        return num_outputs


@dataclass(frozen=True)
class ResidualState:
    branch: Any
    shortcut: Any
    waiting: Tensor  # [B, C, *] what the branch, which looks further ahead, has not reached yet


class Residual(Stage):
    """The sum of a branch and a shortcut that waits for nothing."""

    def __init__(self, branch: Stage, shortcut: Stage, width: int):
        super().__init__()
        self.branch, self.shortcut, self.width = branch, shortcut, width

    def start(self, batch: int, like: Tensor) -> ResidualState:
        return ResidualState(
            self.branch.start(batch, like), self.shortcut.start(batch, like), like.new_zeros(batch, self.width, 0)
        )

    def step(self, x: Tensor, state: ResidualState, last: bool) -> tuple[Tensor, ResidualState]:
        y, branch = self.branch.step(x, state.branch, last)
        past, shortcut = self.shortcut.step(x, state.shortcut, last)
        waiting = torch.cat([state.waiting, past], -1)
        final = y.shape[-1]
        return y + waiting[..., :final], ResidualState(branch, shortcut, waiting[..., final:])

    def needs(self, num_outputs: int) -> int:
        return self.branch.needs(num_outputs)


def _convolve(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """``[B, C, T + reach]`` -> ``[B, D, T]``, without padding."""
    if conv.groups > 1 or x.shape[-1] > SHORT:
        return F.conv1d(x, conv.weight, conv.bias, dilation=conv.dilation, groups=conv.groups)
    seen = x.unfold(-1, conv.dilation[0] * (conv.kernel_size[0] - 1) + 1, 1)[..., :: conv.dilation[0]]
    return F.linear(seen.transpose(1, 2).flatten(2), conv.weight.flatten(1), conv.bias).mT


def _spread(conv: nn.ConvTranspose1d, x: Tensor) -> Tensor:
    """``[B, C, T]`` -> ``[B, D, (T - 1) * stride + kernel]``, without the bias."""
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    if conv.groups > 1 or x.shape[-1] > SHORT:
        return F.conv_transpose1d(x, conv.weight, None, stride, groups=conv.groups)
    length = (x.shape[-1] - 1) * stride + kernel
    return F.fold((x.mT @ conv.weight.flatten(1)).mT, (1, length), (1, kernel), stride=(1, stride))[:, :, 0]


def _unparametrized(conv: Any) -> Any:
    """A convolution whose weight is a tensor: weight normalisation would be worked out anew in every step."""
    if not parametrize.is_parametrized(conv):
        return conv
    kind = nn.ConvTranspose1d if isinstance(conv, nn.ConvTranspose1d) else nn.Conv1d
    bare: Any = nn.utils.skip_init(
        kind,
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size[0],
        conv.stride[0],
        dilation=conv.dilation[0],
        groups=conv.groups,
        bias=conv.bias is not None,
    )
    bare.load_state_dict({"weight": conv.weight} | ({} if conv.bias is None else {"bias": conv.bias}))
    return bare
