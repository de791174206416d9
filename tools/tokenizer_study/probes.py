"""Linear probes: what a stream of codes or features tells a linear map about its frames and clips.

A probe is trained on some clips and judged on others. It is weak on purpose: what it finds lies open.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.core.errors import VoicegraftError


@dataclass(frozen=True)
class ProbeConfig:
    context: int = 3  # frames to either side that a frame's probe sees
    steps: int = 800  # of AdamW
    batch_size: int = 4096  # frames
    lr: float = 0.02  # falls to zero in a straight line
    weight_decay: float = 1e-4
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of many clips with what is to be told about them."""

    values: Tensor  # codes [S, K] (integers) or features [S, D]; clips one after another, ends repeated
    rows: Tensor  # [N] rows of values that have a target
    targets: Tensor  # [N] classes (integers) or numbers

    def windows(self, which: Tensor, context: int) -> Tensor:
        """Values around the frames ``which`` [n] -> ``[n, 2 * context + 1, K or D]``."""
        return self.values[self.rows[which][:, None] + torch.arange(-context, context + 1)]


def join_frames(clips: Iterable[tuple[np.ndarray, np.ndarray]], context: int) -> Frames:
    """(stream ``[T, K or D]``, targets ``[T]``) per clip -> frames; a negative class or a NaN is no target.

    Raises VoicegraftError if a clip has more or fewer targets than frames, or there is no target at all.
    """
    values, rows, targets, start = [], [], [], 0
    for stream, target in clips:
        if len(stream) != len(target):
            raise VoicegraftError(f"expected a target per frame, got {len(target)} for {len(stream)} frames")
        if not len(stream):
            continue
        known = np.isfinite(target) if np.issubdtype(target.dtype, np.floating) else target >= 0
        values.append(np.pad(stream, ((context, context), (0, 0)), mode="edge"))
        rows.append(np.flatnonzero(known) + start + context)
        targets.append(target[known])
        start += len(values[-1])
    if not sum(map(len, targets)):
        raise VoicegraftError("a probe needs frames with targets, got none: are the recordings aligned?")
    joined = torch.from_numpy(np.concatenate(values))
    answers = torch.from_numpy(np.concatenate(targets))
    return Frames(
        joined.float() if joined.is_floating_point() else joined.long(),
        torch.from_numpy(np.concatenate(rows)),
        answers.float() if answers.is_floating_point() else answers.long(),
    )


class LinearProbe(nn.Module):
    """Linear in one-hot codes (a table per codebook and offset, rows summed) or in standardised features."""

    start: Tensor  # of codes: the table row where each slot begins
    mean: Tensor  # of features [D]
    scale: Tensor  # of features [D]

    def __init__(self, train: Frames, vocab_size: int, num_outputs: int, context: int):
        """``vocab_size`` counts for codes only."""
        super().__init__()
        num_slots = (2 * context + 1) * train.values.shape[1]
        self.of_codes = not train.values.is_floating_point()
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        if self.of_codes:
            self.weight = nn.Parameter(torch.zeros(num_slots * vocab_size, num_outputs))
            self.register_buffer("start", torch.arange(num_slots) * vocab_size)
        else:
            self.weight = nn.Parameter(torch.zeros(num_slots, num_outputs))
            self.register_buffer("mean", train.values.mean(0))
            self.register_buffer("scale", train.values.std(0).clamp(min=1e-6))

    def forward(self, windows: Tensor) -> Tensor:
        """Windows ``[n, 2 * context + 1, K or D]`` -> ``[n, num_outputs]``."""
        if self.of_codes:
            return F.embedding_bag(windows.flatten(1) + self.start, self.weight, mode="sum") + self.bias
        return ((windows - self.mean) / self.scale).flatten(1) @ self.weight + self.bias


def train_probe(train: Frames, vocab_size: int, num_classes: int | None, config: ProbeConfig) -> LinearProbe:
    """A probe that tells the class of a frame, or its number when ``num_classes`` is None."""
    probe = LinearProbe(train, vocab_size, num_classes or 1, config.context)
    optimizer = torch.optim.AdamW(probe.parameters(), config.lr, weight_decay=config.weight_decay)
    draw = torch.Generator().manual_seed(config.seed)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            # A table sums many slots, a matrix many more dimensions: the rate is for one slot's share.
            group["lr"] = config.lr * (1 - step / config.steps) * (1.0 if probe.of_codes else 0.1)
        which = torch.randint(len(train.rows), (config.batch_size,), generator=draw)
        out = probe(train.windows(which, config.context))
        target = train.targets[which]
        loss = F.cross_entropy(out, target) if num_classes else F.mse_loss(out[:, 0], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return probe.requires_grad_(False)


def predict(probe: LinearProbe, frames: Frames, context: int) -> Tensor:
    """Classes ``[N]``, or numbers ``[N]`` of a probe with one output."""
    outs = [probe(frames.windows(which, context)) for which in torch.arange(len(frames.rows)).split(8192)]
    out = torch.cat(outs)
    return out.argmax(-1) if out.shape[-1] > 1 else out[:, 0]


def accuracy(predicted: Tensor, targets: Tensor) -> float:
    return float((predicted == targets).float().mean())


def mean_recall(predicted: Tensor, targets: Tensor) -> float:
    """Accuracy in which every class that occurs weighs the same: chance is one over their number."""
    hits = (predicted == targets).float()
    return float(torch.stack([hits[targets == c].mean() for c in targets.unique()]).mean())


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's r; 0 if one of them does not vary."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale else 0.0


@dataclass(frozen=True)
class CodeUse:
    """How a stream of codes uses its codebooks."""

    used: int  # codes that occur, over all codebooks
    perplexity: float  # exp of the unigram entropy, mean over codebooks
    bits_per_frame: float  # unigram entropy, sum over codebooks


def code_use(streams: Iterable[np.ndarray], vocab_size: int) -> CodeUse:
    """Unigram statistics of code streams ``[T, K]``."""
    frames = np.concatenate(list(streams))
    counts = np.stack([np.bincount(column, minlength=vocab_size) for column in frames.T])
    share = counts / counts.sum(1, keepdims=True)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(1)
    return CodeUse(int((counts > 0).sum()), float(np.exp(entropy).mean()), float(entropy.sum() / np.log(2)))


def clip_vector(stream: np.ndarray, vocab_size: int) -> np.ndarray:
    """One vector for a clip: roots of its code frequencies ``[K * V]``, or the mean of its features ``[D]``.

    Roots, because raw frequencies of rare codes are drowned by those of silence.
    """
    if np.issubdtype(stream.dtype, np.floating):
        return stream.mean(0).astype(np.float32)
    counts = np.stack([np.bincount(column, minlength=vocab_size) for column in stream.T])
    return np.sqrt(counts / max(len(stream), 1)).reshape(-1).astype(np.float32)


def clip_classes(
    vectors: np.ndarray,
    classes: Sequence[int],
    unseen: np.ndarray,
    penalties: Sequence[float] = (1.0, 30.0, 1000.0),
) -> np.ndarray:
    """Classes ``[M]`` of ``unseen`` ``[M, D]`` by multinomial logistic regression on ``vectors`` ``[N, D]``.

    ``penalties`` are inverse strengths of the L2 penalty; threefold cross-validation chooses one.
    """
    linear, selection = _sklearn("linear_model"), _sklearn("model_selection")
    centre = vectors.mean(0)
    # One scale for all dimensions: rare codes stay small.
    scale = max(float(np.sqrt(((vectors - centre) ** 2).sum(1).mean())), 1e-9)
    search = selection.GridSearchCV(
        linear.LogisticRegression(max_iter=300), {"C": list(penalties)}, scoring="balanced_accuracy", cv=3
    )
    search.fit((vectors - centre) / scale, np.asarray(classes))
    return np.asarray(search.predict((unseen - centre) / scale))


def _sklearn(module: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(f"sklearn.{module}")
    except ImportError as error:
        raise VoicegraftError(
            "probing whole clips needs the package scikit-learn, which is not installed; "
            "run: pip install voicegraft[evaluate]"
        ) from error
