import torch

from voicegraft.acoustic.adversary import Adversary, AdversaryConfig
from voicegraft.acoustic.losses import SpectralLoss


def noise(seed: int, size: float = 0.3) -> torch.Tensor:
    return size * torch.randn(2, 6000, generator=torch.Generator().manual_seed(seed))


def test_the_spectral_loss_is_zero_for_the_same_sound_and_grows_with_the_difference() -> None:
    loss, real = SpectralLoss(), noise(0)
    assert loss(real, real) == 0
    errors = [float(loss(real + noise(1, size), real)) for size in (0.01, 0.1, 1.0)]
    assert 0 < errors[0] < errors[1] < errors[2]
    assert loss(-real, real) < 1e-6  # magnitudes do not hear polarity


def test_the_spectral_loss_has_finite_gradients_in_silence() -> None:
    made = torch.zeros(1, 6000, requires_grad=True)
    SpectralLoss()(made, torch.zeros(1, 6000)).backward()
    assert torch.isfinite(made.grad).all()


def adversary() -> Adversary:
    torch.manual_seed(0)
    return Adversary(AdversaryConfig(window_lengths=(384, 768), channels=4))


def test_the_adversary_s_own_loss_moves_only_itself() -> None:
    judge, made = adversary(), noise(1).requires_grad_()
    judge.own_loss(noise(0), made).backward()
    assert made.grad is None
    assert all(p.grad is not None for p in judge.parameters())


def test_the_maker_s_losses_reach_the_maker() -> None:
    judge, real = adversary(), noise(0)
    for part in (0, 1):
        made = noise(1).requires_grad_()
        judge.makers_loss(real, made)[part].backward()
        assert made.grad is not None and made.grad.abs().sum() > 0
    assert judge.makers_loss(real, real)[1] < 1e-6  # the features of the same sound match


def test_the_adversary_learns_to_tell() -> None:
    judge = adversary()
    adam = torch.optim.Adam(judge.parameters(), lr=1e-2)
    losses = []
    for step in range(12):
        adam.zero_grad()
        quiet_hum = 0.3 * torch.sin(torch.arange(6000) * 0.05 + step).expand(2, -1)
        loss = judge.own_loss(noise(step), quiet_hum)
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
