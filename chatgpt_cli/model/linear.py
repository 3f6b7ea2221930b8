"""A linear map that in training may multiply whole numbers of 8 bits.

Processors with 8-bit dot products (VNNI) multiply such numbers at twice the speed of
bfloat16 and several times that of float32. All three products of a training step are done
so: the output, the gradient by the input and the gradient by the weight (as in SwitchBack,
Wortsman et al. 2023, which leaves the third one out). For each of them both factors get
scales for the axis that is not summed over, so that nothing has to be shared by numbers
that are far apart; sums are exact.

The weights themselves, and everything outside these products, stay what they are, and
without gradients (validation, generation) a product is an ordinary one.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chatgpt_cli.model.native.library import load_library


class Linear(nn.Linear):
    """x W^T + b; see the module."""

    # Set by `Transformer.set_int8_training`.
    int8 = False

    def forward(self, input: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        if not (self.int8 and torch.is_grad_enabled() and self.weight.requires_grad):
            return F.linear(input, self.weight, self.bias)
        device = input.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        out: Tensor = _Int8Product.apply(  # type: ignore[no-untyped-call]
            input, self.weight, dtype or self.weight.dtype
        )
        return out if self.bias is None else out + self.bias.to(out.dtype)


@functools.cache
def int8_is_possible() -> bool:
    """Whether there is what training in 8 bits needs: compiled code, and exact sums.

    Without 8-bit dot products some processors add pairs of products in 16 bits, which
    large numbers overflow.
    """
    largest = torch.full((64, 64), 127, dtype=torch.int8)
    exact = bool((torch._int_mm(largest, -largest) == -64 * 127**2).all())
    return exact and _native() is not None


class _Int8Product(torch.autograd.Function):
    """x W^T in `dtype`, bfloat16 or float32, the type of sums' results too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).to(dtype).contiguous()  # (positions, inputs)
        x_rows, x_scale, x_columns, x_column_scale = quantize(rows)
        w_rows, w_scale, w_columns, w_column_scale = quantize(weight.contiguous())
        ctx.save_for_backward(x_columns, x_column_scale, w_columns, w_column_scale)
        ctx.dtypes = x.dtype, weight.dtype
        ctx.shape = x.shape
        out: Tensor = multiply(x_rows, w_rows.t(), x_scale, w_scale, dtype)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_columns, x_scale, w_columns, w_scale = ctx.saved_tensors
        (gradient,) = gradients
        x_dtype, w_dtype = ctx.dtypes
        d_rows, d_scale, d_columns, d_column_scale = quantize(
            gradient.reshape(-1, gradient.shape[-1]).contiguous()
        )
        by_input = by_weight = None
        if ctx.needs_input_grad[0]:
            by_input = multiply(d_rows, w_columns, d_scale, w_scale, gradient.dtype)
            by_input = by_input.view(ctx.shape).to(x_dtype)
        if ctx.needs_input_grad[1]:
            by_weight = multiply(d_columns.t(), x_columns, d_column_scale, x_scale, w_dtype)
        return by_input, by_weight, None


@functools.cache
def _native() -> ctypes.CDLL | None:
    return load_library(torch.device("cpu"), build=True)


def _compiled() -> ctypes.CDLL:
    library = _native()
    assert library is not None  # else `int8_is_possible` said so
    return library


@torch.library.custom_op("chatgpt::quantize", mutates_args=(), device_types="cpu")
def quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A matrix as whole numbers from -127 to 127, twice.

    Args:
        x: (rows, columns), bfloat16 or float32, contiguous.

    Returns:
        Numbers (rows, columns) int8 and their scales (rows,) float32; numbers and scales
        (columns,). Number times scale is nearly x. Where a row or column has a NaN or an
        infinity, its scale is NaN.
    """
    by_rows = torch.empty(x.shape, dtype=torch.int8)
    by_columns = torch.empty_like(by_rows)
    row_scales, column_scales = torch.empty(x.shape[0]), torch.empty(x.shape[1])
    _compiled().quantize_matrix(
        x.data_ptr(), x.dtype is torch.bfloat16, *x.shape, by_rows.data_ptr(),
        row_scales.data_ptr(), by_columns.data_ptr(), column_scales.data_ptr(),
        torch.get_num_threads(),
    )  # fmt: skip
    return by_rows, row_scales, by_columns, column_scales


@quantize.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    numbers = x.new_empty(x.shape, dtype=torch.int8)
    rows = x.new_empty(x.shape[0], dtype=torch.float32)
    columns = x.new_empty(x.shape[1], dtype=torch.float32)
    return numbers, rows, torch.empty_like(numbers), columns


@torch.library.custom_op("chatgpt::multiply", mutates_args=(), device_types="cpu")
def multiply(
    a: Tensor, b: Tensor, row_scales: Tensor, column_scales: Tensor, dtype: torch.dtype
) -> Tensor:
    """(a b) * row_scales[:, None] * column_scales: (m, n) in `dtype`.

    Args:
        a: (m, k) int8, of any strides.
        b: (k, n) int8, of any strides.
        row_scales: (m,) float32.
        column_scales: (n,) float32.
        dtype: bfloat16 or float32.
    """
    sums = torch._int_mm(a, b)
    out = torch.empty(sums.shape, dtype=dtype)
    _compiled().rescale_sums(
        sums.data_ptr(), dtype is torch.bfloat16, *sums.shape, row_scales.data_ptr(),
        column_scales.data_ptr(), out.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return out


@multiply.register_fake
def _(
    a: Tensor,
    b: Tensor,
    row_scales: Tensor,  # noqa: ARG001
    column_scales: Tensor,  # noqa: ARG001
    dtype: torch.dtype,
) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1], dtype=dtype)
