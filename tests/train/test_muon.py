"""Our Muon is torch's, with matrices of one shape together."""

import pytest
import torch
from torch import nn

from voicegraft.train import muon
from voicegraft.train.muon import Muon

SHAPES = [(8, 16), (8, 16), (16, 8), (8, 16), (5, 5), (16, 8)]


def trained(kind: type[torch.optim.Muon], skipped: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=draw)) for shape in SHAPES]
    optimizer = kind(parameters, lr=0.02, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        for number, parameter in enumerate(parameters):
            gradient = torch.randn(parameter.shape, generator=draw)
            parameter.grad = None if number == skipped else gradient
        optimizer.step()
    return [p.detach() for p in parameters]


@pytest.mark.parametrize("skipped", [-1, 1])
def test_the_same_as_torch(skipped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "has_bfloat16", lambda device: True)  # torch's is always in bfloat16
    for ours, theirs in zip(trained(Muon, skipped), trained(torch.optim.Muon, skipped), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_rows_become_orthonormal() -> None:
    made = muon.orthogonal(torch.randn(3, 6, 20), (3.4445, -4.7750, 2.0315), 5, 1e-7).float()
    singular = torch.linalg.svdvals(made)
    assert 0.6 < float(singular.min()) <= float(singular.max()) < 1.3  # as near as five iterations come
