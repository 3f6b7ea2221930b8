"""The chunked loss against PyTorch's plain cross entropy."""

import pytest
import torch
from torch.nn import functional

from chatgpt_cli.training.loss import CHUNK, linear_cross_entropy


def _case(positions: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    features = torch.randn(positions, 16, requires_grad=True)
    weight = torch.randn(50, 16, requires_grad=True)
    labels = torch.randint(0, 50, (positions,))
    labels[::3] = -100
    return features, weight, labels


@pytest.mark.parametrize("positions", [1, 7, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_equal_plain_cross_entropy(positions: int, smoothing: float) -> None:
    features, weight, labels = _case(positions)
    labels[0] = 3
    loss = linear_cross_entropy(features, weight, labels, label_smoothing=smoothing)
    got = torch.autograd.grad(loss * 0.5, (features, weight))
    plain = functional.cross_entropy(
        features @ weight.T, labels, reduction="sum", label_smoothing=smoothing
    )
    wanted = torch.autograd.grad(plain * 0.5, (features, weight))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_value_leaves_smoothing_out() -> None:
    features, weight, labels = _case(40)
    plain = functional.cross_entropy(features @ weight.T, labels, reduction="sum")
    smoothed = linear_cross_entropy(features, weight, labels, label_smoothing=0.2)
    torch.testing.assert_close(smoothed, plain)


def test_bfloat16_matrices_keep_a_precise_sum() -> None:
    features, weight, labels = _case(3000)
    exact = linear_cross_entropy(features, weight, labels)
    rounded = linear_cross_entropy(features, weight, labels, dtype=torch.bfloat16)
    assert abs(rounded / exact - 1) < 1e-3


def test_no_targets_no_loss_no_gradient() -> None:
    features, weight, labels = _case(10)
    loss = linear_cross_entropy(features, weight, torch.full_like(labels, -100))
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None and not features.grad.any()
