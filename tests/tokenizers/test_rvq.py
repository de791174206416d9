from itertools import pairwise

import torch
from torch import Tensor

from voicegraft.tokenizers.rvq import RVQ


def clustered(batch: int = 4, seed: int = 0) -> Tensor:
    """``[B, 32, 6]`` around eight centres."""
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(8, 6, generator=torch.Generator().manual_seed(99))
    which = torch.randint(8, (batch, 32), generator=generator)
    return centres[which] + 0.5 * torch.randn(batch, 32, 6, generator=generator)


def trained(num_codebooks: int = 3, steps: int = 60) -> RVQ:
    torch.manual_seed(0)
    rvq = RVQ(num_codebooks, 16, 6, decay=0.9)
    for step in range(steps):
        rvq(clustered(seed=step))
    return rvq.eval()


def test_every_code_is_the_nearest_entry_to_what_is_left_over() -> None:
    rvq, x = trained(), clustered(seed=1000)
    codes = rvq.encode(x)
    residual = x
    for k in range(3):
        distances = torch.cdist(residual.flatten(0, 1), rvq.codebooks[k])
        assert torch.equal(distances.argmin(-1), codes[:, k].flatten())
        residual = residual - rvq.codebooks[k][codes[:, k]]
    assert torch.allclose(rvq.decode(codes), x - residual, atol=1e-5)


def test_training_and_encoding_agree() -> None:
    rvq, x = trained(), clustered(seed=1000)
    quantised, codes, _ = rvq(x)
    assert torch.equal(codes, rvq.encode(x))
    assert torch.allclose(quantised, rvq.decode(codes), atol=1e-5)


def test_every_codebook_shrinks_the_error() -> None:
    rvq, x = trained(), clustered(seed=1000)
    codes = rvq.encode(x)
    entries = torch.stack([rvq.codebooks[k][codes[:, k]] for k in range(3)]).cumsum(0)
    errors = [float(x.square().mean()), *((x - e).square().mean().item() for e in entries)]
    assert all(after < 0.9 * before for before, after in pairwise(errors))


def test_training_lowers_the_error() -> None:
    x = clustered(seed=1000)
    errors = [float((rvq.decode(rvq.encode(x)) - x).square().mean()) for rvq in (trained(steps=1), trained(steps=60))]
    assert errors[1] < 0.9 * errors[0]


def test_gradients_pass_straight_through_and_the_commitment_pulls_towards_the_entries() -> None:
    rvq = trained()
    x = clustered(seed=5).requires_grad_()
    quantised, codes, commitment = rvq(x)
    (gradient,) = torch.autograd.grad(quantised.sum(), x, retain_graph=True)
    assert torch.equal(gradient, torch.ones_like(x))
    commitment.backward()
    moved = (x - 10 * x.grad).detach()
    before, after = ((y.detach() - rvq.decode(codes)).square().mean() for y in (x, moved))
    assert after < before


def test_dead_entries_are_moved_onto_data() -> None:
    torch.manual_seed(0)
    rvq = RVQ(1, 16, 6, decay=0.5)
    rvq(clustered())
    with torch.no_grad():
        rvq.codebooks[0, 3:] = 1000.0  # far away: nobody chooses them
        rvq.sums[0, 3:] = 1000.0
        rvq.counts[0, 3:] = 1.0
    for step in range(40):
        rvq(clustered(seed=step))
    assert rvq.codebooks.abs().max() < 20
    used = torch.cat([rvq.eval().encode(clustered(seed=s)).flatten() for s in range(1000, 1010)])
    assert used.unique().numel() >= 14


def test_nothing_moves_outside_of_training() -> None:
    rvq = trained()
    before = {name: t.clone() for name, t in rvq.state_dict().items()}
    rvq(clustered(seed=7))
    assert all(torch.equal(before[name], t) for name, t in rvq.state_dict().items())


def test_an_empty_quantiser_starts_from_the_first_batch() -> None:
    torch.manual_seed(0)
    rvq, x = RVQ(2, 16, 6), clustered()
    assert not rvq.started
    quantised, _, _ = rvq(x)
    assert rvq.started
    assert (quantised - x).square().mean() < 0.5 * x.square().mean()
