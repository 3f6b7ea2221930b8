"""Training in 8 bits: the rounding, the three products, and where they are not used."""

import pytest
import torch
from torch import Tensor

from chatgpt_cli.model.linear import Linear, int8_is_possible, multiply, quantize
from tests.model.test_transformer import CHOICES, build, tokens

pytestmark = pytest.mark.skipif(not int8_is_possible(), reason="no C++ compiler")


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Normal, in columns and rows of very different size, as gradients are."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [torch.randn(n, generator=generator).exp() for n in shape]
    x = torch.randn(*shape, generator=generator)
    return x * sizes[0][:, None] * sizes[1]


# One row, fewer rows than threads can share evenly, and columns that fill no vector.
@pytest.mark.parametrize("shape", [(1, 16), (3, 7), (5, 1), (64, 128), (33, 65), (130, 1000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounded_to_the_nearest_whole_number(shape: tuple[int, int], dtype: torch.dtype) -> None:
    x = numbers(*shape).to(dtype)
    by_rows, row_scales, by_columns, column_scales = quantize(x)
    wide = x.float()
    for axis, whole, scales in ((1, by_rows, row_scales), (0, by_columns, column_scales)):
        torch.testing.assert_close(scales, wide.abs().amax(axis) / 127)
        divided = wide / scales.unsqueeze(axis)
        assert float((whole - divided).abs().max()) < 0.501
        assert (whole.abs().amax(axis) == 127).all()


def test_zeros_stay_zeros() -> None:
    x = numbers(8, 16)
    x[3] = 0
    x[:, 5] = 0
    by_rows, row_scales, by_columns, column_scales = quantize(x)
    assert not by_rows[3].any() and not by_columns[:, 5].any()
    assert row_scales[3].abs() < 1e-30 and column_scales[5].abs() < 1e-30


@pytest.mark.parametrize("bad", [torch.nan, -torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_does_not_get_lost(bad: float, dtype: torch.dtype) -> None:
    x = numbers(8, 16).to(dtype)
    x[2, 9] = bad
    by_rows, row_scales, _, column_scales = quantize(x)
    assert row_scales.isnan().nonzero().tolist() == [[2]]
    assert column_scales.isnan().nonzero().tolist() == [[9]]
    product = multiply(by_rows, by_rows.t(), row_scales, row_scales, dtype)
    assert product[2].isnan().all() and not product[3, 4:].isnan().any()


def test_products_are_exact_but_for_the_rounding() -> None:
    a, b = (quantize(numbers(40, 300, seed=seed)) for seed in (1, 2))
    ours = multiply(a[0], b[0].t(), a[1], b[1], torch.float32)
    exact = (a[0].double() @ b[0].double().T) * torch.outer(a[1], b[1])
    torch.testing.assert_close(ours.double(), exact, rtol=1e-6, atol=0)
    # Transposed as the gradient by the weight is.
    ours = multiply(a[2].t(), b[2], a[3], b[3], torch.float32)
    exact = (a[2].double().T @ b[2].double()) * torch.outer(a[3], b[3])
    torch.testing.assert_close(ours.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_output_and_gradients_are_near_those_of_floats(bias: bool, autocast: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = Linear(192, 80, bias=bias)
    x = torch.randn(2, 150, 192, generator=generator, requires_grad=True)
    upstream = torch.randn(2, 150, 80, generator=generator)
    found: list[list[Tensor]] = []
    for int8 in (False, True):
        layer.int8 = int8
        layer.zero_grad()
        x.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = layer(x)
        assert out.dtype is (torch.bfloat16 if autocast else torch.float32)
        out.backward(upstream.to(out.dtype))
        gradients = [x.grad, *(one.grad for one in layer.parameters())]
        found.append([out.detach(), *(one for one in gradients if one is not None)])
    assert len(found[0]) == (4 if bias else 3)
    for exact, ours in zip(*found, strict=True):
        assert ours.shape == exact.shape and ours.dtype is exact.dtype
        error = float((ours - exact).float().norm() / exact.float().norm())
        assert error < 0.02
    # It was another product, not the same one.
    assert not torch.equal(found[0][0], found[1][0])


def test_only_trained_weights_and_only_in_training() -> None:
    layer = Linear(64, 32)
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    plain = layer(x)
    layer.int8 = True
    assert not torch.equal(layer(x), plain)
    with torch.no_grad():
        assert torch.equal(layer(x), plain)
    layer.requires_grad_(False)
    assert torch.equal(layer(x), plain)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kind", ["qwen3", "article"])
def test_a_model_learns_from_nearly_the_same_gradients(kind: str, compiled: bool) -> None:
    model = build(**CHOICES[kind])
    ids = tokens(4, 16)

    def gradient() -> Tensor:
        model.zero_grad()
        model(ids).square().mean().backward()
        inside = model.model.layers.parameters()
        return torch.cat([one.grad.flatten() for one in inside if one.grad is not None])

    exact = gradient()
    model.set_int8_training(True)
    if compiled:
        for block in model.model.blocks():
            block.compile(dynamic=False)
    ours = gradient()
    assert not torch.equal(ours, exact)
    assert torch.cosine_similarity(ours, exact, dim=0) > 0.99


def test_not_where_sums_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on processors that add two products in 16 bits."""
    whole = torch._int_mm
    int8_is_possible.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: whole(a, b).clamp_min(-(2**15)))
    assert not int8_is_possible()
    int8_is_possible.cache_clear()
