"""RMSNorm against its formula, values and gradients."""

import pytest
import torch

from chatgpt_cli.model.norm import RMSNorm


def _plain(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return weight * x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()


@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 3, 4)])
def test_values_and_gradients_are_those_of_the_formula(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm = RMSNorm(shape[-1], 1e-5).double()
    norm.weight.data.normal_()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(shape, dtype=torch.float64)

    expected = torch.autograd.grad(_plain(x, norm.weight, 1e-5), (x, norm.weight), upstream)
    result = torch.autograd.grad(norm(x), (x, norm.weight), upstream)

    torch.testing.assert_close(norm(x), _plain(x, norm.weight, 1e-5))
    torch.testing.assert_close(result, expected)
    with torch.no_grad():
        torch.testing.assert_close(norm(x), _plain(x, norm.weight, 1e-5))


def test_gradient_of_a_gradient_that_is_not_contiguous() -> None:
    torch.manual_seed(0)
    norm = RMSNorm(4, 1e-6)
    x = torch.randn(2, 3, 4, requires_grad=True)
    norm(x).transpose(1, 2).sum().backward()
    assert x.grad is not None
    # Each output row has a fixed length, so x may not grow along itself.
    torch.testing.assert_close((x.grad * x).sum(-1), torch.zeros(2, 3), atol=1e-5, rtol=0)


def test_low_precision_is_computed_in_float32() -> None:
    norm = RMSNorm(64, 1e-6)
    x = torch.randn(10, 64).bfloat16()
    assert norm(x).dtype == torch.bfloat16
    torch.testing.assert_close(norm(x), norm(x.float()).bfloat16())
    norm.bfloat16()
    assert norm(x).dtype == torch.bfloat16
