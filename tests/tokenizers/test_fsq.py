import pytest
import torch

from voicegraft.tokenizers.fsq import FSQ, structured_rows

LEVELS = [(3,), (3, 5), (7, 7, 5, 5)]


@pytest.mark.parametrize("levels", LEVELS)
def test_codes_digits_and_values_are_one_numbering(levels: tuple[int, ...]) -> None:
    fsq = FSQ(levels)
    codes = torch.arange(fsq.vocab_size)
    digits = fsq.digits(codes)
    assert len({tuple(row) for row in digits.tolist()}) == fsq.vocab_size
    assert (digits >= 0).all() and (digits < torch.tensor(levels)).all()
    assert torch.equal((digits * fsq.radix).sum(-1), codes)
    values = fsq.values(codes)
    assert values.min() == -1 and values.max() == 1
    # Real numbers whose tanh are these values (the ends just inside) are rounded back to the same codes.
    quantised, again = fsq(torch.atanh(values * 0.99)[None])
    assert torch.equal(again[0], codes)
    assert torch.allclose(quantised[0], values, atol=1e-6)


def test_forward_codes_are_the_radix_number_of_the_rounding() -> None:
    levels = (5, 3, 7)
    x = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0)) * 2
    quantised, codes = FSQ(levels)(x)
    reach = torch.tensor([2, 1, 3])
    digits = (torch.tanh(x) * reach).round().long() + reach
    assert torch.equal(codes, digits[..., 0] + 5 * digits[..., 1] + 15 * digits[..., 2])
    assert torch.allclose(quantised, digits / reach - 1, atol=1e-6)
    assert torch.allclose(FSQ(levels).values(codes), quantised, atol=1e-6)


def test_gradients_pass_straight_through_the_rounding() -> None:
    x = torch.randn(2, 9, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    quantised, _ = FSQ((3, 5))(x)
    quantised.sum().backward()
    assert torch.allclose(x.grad, 1 - torch.tanh(x.detach()).square(), atol=1e-6)


def test_noise_takes_the_place_of_rounding_in_its_share_of_the_rows() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 6, 2)
    fsq = FSQ((5, 5))
    rounded, codes = fsq(x)
    noisy, same_codes = fsq(x, noise_share=0.3)
    assert torch.equal(codes, same_codes)
    differs = (noisy != rounded).any(-1)
    assert torch.equal(differs.any(1), differs.all(1))  # a row has noise throughout or not at all
    assert differs.any(1).float().mean() == pytest.approx(0.3, abs=0.07)
    assert ((noisy - torch.tanh(x)).abs() <= 0.25 + 1e-6).all()  # half a step of 1/2
    assert (fsq(x, noise_share=1.0)[0] != rounded).any(-1).all()


@pytest.mark.parametrize("levels", [(), (4,), (3, 1)])
def test_levels_are_odd_numbers_from_three_on(levels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="odd numbers from 3 on"):
        FSQ(levels)


def test_codes_that_differ_in_one_digit_begin_as_neighbours() -> None:
    torch.manual_seed(0)
    levels = (7, 7, 5, 5)
    fsq = FSQ(levels)
    rows = structured_rows(levels, 64, std=0.02)
    assert rows.shape == (1225, 64)
    assert float(rows.std()) == pytest.approx(0.02, rel=0.15)
    digits = fsq.digits(torch.arange(1225))
    first = torch.randint(1225, (4000,))
    second = torch.randint(1225, (4000,))
    num_different = (digits[first] != digits[second]).sum(-1)
    similarity = torch.cosine_similarity(rows[first], rows[second], dim=-1)
    by_count = [float(similarity[num_different == n].mean()) for n in range(1, 5)]
    assert by_count == sorted(by_count, reverse=True)
    assert by_count[0] > 0.6 and by_count[3] < 0.15
