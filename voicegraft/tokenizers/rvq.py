"""Residual vector quantisation (Zeghidour et al. 2021, arXiv 2107.03312): each codebook quantises what the last left over.

Codebooks follow the data by exponential moving averages (van den Oord et al. 2017); an entry that nobody uses is moved
onto a random frame, so no entry stays dead. Where several processes train, the averages are over the frames of all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voicegraft.core.processes import num_processes, sum_over_processes, take_from_main


class RVQ(nn.Module):
    """Quantises ``[B, T, D]`` with K codebooks of N entries each."""

    codebooks: Tensor  # [K, N, D]
    counts: Tensor  # [K, N] moving average of uses per batch
    sums: Tensor  # [K, N, D] moving average of what was assigned
    started: Tensor  # bool: codebooks hold data

    def __init__(self, num_codebooks: int, codebook_size: int, width: int, decay: float = 0.98):
        super().__init__()
        self.decay = decay
        self.register_buffer("codebooks", torch.zeros(num_codebooks, codebook_size, width))
        self.register_buffer("counts", torch.ones(num_codebooks, codebook_size))
        self.register_buffer("sums", torch.zeros(num_codebooks, codebook_size, width))
        self.register_buffer("started", torch.tensor(False))

    def encode(self, x: Tensor) -> Tensor:
        """``[B, T, D]`` -> codes ``[B, K, T]``."""
        return self._assign(x.float())[0]

    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``[B, K, T]`` -> sums of entries ``[B, T, D]``."""
        return torch.stack([F.embedding(codes[:, k], book) for k, book in enumerate(self.codebooks)]).sum(0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Training: (quantised with straight-through gradients ``[B, T, D]``, codes ``[B, K, T]``, commitment loss).

        The loss pulls every residual towards its entry, so that the encoder does not run away from the codebooks.
        """
        with torch.autocast(x.device.type, enabled=False):  # distances need all their digits
            x = x.float()
            if self.training and not self.started:
                self._start(x)
            codes, quantised, residuals = self._assign(x)
            commitment = torch.stack([(r - q.detach()).square().mean() for r, q in residuals]).mean()
            if self.training:
                self._follow(codes, [r.detach() for r, _ in residuals])
            return x + (quantised - x).detach(), codes, commitment

    def _assign(self, x: Tensor) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        residual, total = x, torch.zeros_like(x)
        codes, residuals = [], []
        for book in self.codebooks:
            with torch.no_grad():
                distance = book.square().sum(-1) - 2 * residual @ book.T
                code = distance.argmin(-1)
            entry = F.embedding(code, book)
            codes.append(code)
            residuals.append((residual, entry))
            residual = residual - entry.detach()
            total = total + entry
        return torch.stack(codes, 1), total, residuals

    @torch.no_grad()
    def _start(self, x: Tensor) -> None:
        """Each codebook begins as random frames of its own residual."""
        residual = x.flatten(0, 1)
        for k, book in enumerate(self.codebooks):
            rows = torch.randint(len(residual), (len(book),), device=x.device)
            book.copy_(residual[rows] + 0.01 * torch.randn_like(book))
            self.sums[k].copy_(book)
            nearest = (book.square().sum(-1) - 2 * residual @ book.T).argmin(-1)
            residual = residual - book[nearest]
        take_from_main((self.codebooks, self.sums))
        self.started.fill_(True)

    @torch.no_grad()
    def _follow(self, codes: Tensor, residuals: list[Tensor]) -> None:
        for k, book in enumerate(self.codebooks):
            chosen = F.one_hot(codes[:, k].flatten(), len(book)).float()  # [B * T, N]
            frames = residuals[k].flatten(0, 1)
            used, assigned = chosen.sum(0), chosen.T @ frames
            if num_processes() > 1:
                sum_over_processes((used, assigned))
                used, assigned = used / num_processes(), assigned / num_processes()
            self.counts[k].lerp_(used, 1 - self.decay)
            self.sums[k].lerp_(assigned, 1 - self.decay)
            dead = self.counts[k] < 0.03 * float(used.sum()) / len(book)
            if dead.any():
                rows = torch.randint(len(frames), (int(dead.sum()),), device=book.device)
                found = frames[rows]
                take_from_main((found,))  # the same entries are dead everywhere
                self.sums[k][dead] = found
                self.counts[k][dead] = 1.0
            book.copy_(self.sums[k] / self.counts[k][:, None].clamp(min=1e-5))
