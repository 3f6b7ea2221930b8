"""Muon: what orthogonalising does, and one step against the formula."""

import pytest
import torch

from chatgpt_cli.training.muon import _MARGIN, _POLYNOMIALS, Blocks, Muon, orthogonalize


@pytest.mark.parametrize("shape", [(8, 8), (8, 24), (24, 8), (64, 48)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape)
    result = orthogonalize(matrices.bfloat16()).float()
    values = torch.linalg.svdvals(result)
    assert result.shape == matrices.shape
    # Rounding to bfloat16 adds to the polynomials' own 0.27.
    assert values.max() < 1.35 and 0.7 < values.median() < 1.3
    if shape[0] != shape[1]:
        assert values.min() > 0.6
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    cosine = (result * (u @ v)).sum() / (result.norm() * (u @ v).norm())
    assert cosine > 0.97


@pytest.mark.parametrize("shape", [(64, 256), (256, 64), (96, 96)])
def test_steps_are_those_of_the_polynomials(shape: tuple[int, int]) -> None:
    """Of a matrix whose singular values fall to a thousandth, as those of gradients do."""
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(2, *shape), full_matrices=False)
    values = torch.logspace(0, -3, min(shape))
    expected = (values / values.pow(4).sum().pow(0.25)).double()
    for a, b, c in _POLYNOMIALS:
        x = expected / _MARGIN
        expected = a * x + b * x**3 + c * x**5
    exact = (u.double() * expected) @ v.double()
    found = orthogonalize(((u * values) @ v).bfloat16()).double()
    assert (found - exact).norm() < 0.035 * exact.norm()


def test_size_does_not_matter_and_zero_stays_zero() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(1, 8, 16)
    small, large = orthogonalize((matrix / 1024).bfloat16()), orthogonalize(matrix.bfloat16())
    torch.testing.assert_close(small, large, rtol=0.05, atol=0.02)
    assert not orthogonalize(torch.zeros(1, 4, 4).bfloat16()).any()


@pytest.mark.parametrize("dim", [0, 1])
def test_blocks_split_and_join(dim: int) -> None:
    matrix = torch.arange(48.0).view(6, 8) if dim else torch.arange(48.0).view(8, 6)
    blocks = Blocks(2, dim)
    parts = blocks.split(matrix)
    assert parts.shape[0] == 2
    assert torch.equal(blocks.join(parts), matrix)
    expected = matrix[:, :4] if dim else matrix[:4]
    assert torch.equal(parts[0], expected)


@pytest.mark.parametrize("blocks", [Blocks(), Blocks(2, 0), Blocks(2, 1)])
def test_a_step_is_momentum_orthogonalised_by_blocks(blocks: Blocks) -> None:
    torch.manual_seed(0)
    matrix = torch.nn.Parameter(torch.randn(16, 8))
    other = torch.nn.Parameter(torch.randn(16, 8))
    optimizer = Muon([(matrix, blocks), (other, blocks)], lr=0.1, momentum=0.95, weight_decay=0.5)
    expected, buffer = matrix.detach().clone(), torch.zeros(16, 8)
    for _ in range(3):
        gradient = torch.randn(16, 8)
        matrix.grad, other.grad = gradient, torch.randn(16, 8)
        optimizer.step()
        buffer = 0.95 * buffer + 0.05 * gradient
        direction = 0.05 * gradient + 0.95 * buffer
        parts = orthogonalize(blocks.split(direction).bfloat16())
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * 2**0.5 * blocks.join(parts.float())
    torch.testing.assert_close(matrix.detach(), expected, rtol=1e-3, atol=2e-3)
