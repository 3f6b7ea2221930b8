"""Linear maps whose weights are stored for reading: reordered, or in 8 or 4 bits.

Writing one token multiplies one vector with every matrix, so its time is that of
reading the weights. All kernels are PyTorch's own.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from chatgpt_cli.model.quantized import GROUP, QuantizedWeight

Quantization = Literal["none", "int8", "int4"]

# From so many rows on, expanding the weights once and multiplying at full speed is faster.
_INT8_ROWS = 8
_INT4_ROWS = 64


class Linear(Protocol):
    """x (..., inputs) to (..., outputs), in the type of x."""

    def __call__(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""


def pack_linear(
    weight: Tensor | QuantizedWeight, bias: Tensor | None, quantization: Quantization
) -> Linear:
    """The fastest form of a linear map for this device, type and quantization.

    Args:
        weight: (outputs, inputs) float32 or bfloat16; or quantized already, and taken so.
        bias: (outputs,), if there is one.
        quantization: int4 falls back to int8 for a matrix that does not divide into
            groups, and on devices other than the CPU.
    """
    on_cpu = weight.device.type == "cpu"
    if isinstance(weight, QuantizedWeight):
        return _pack_quantized(weight, bias, on_cpu=on_cpu)
    outputs, inputs = weight.shape
    if quantization == "int4" and on_cpu and inputs % GROUP == 0 and outputs % 16 == 0:
        return Int4Linear(*int4_numbers(weight), bias)
    if quantization != "none":
        whole = QuantizedWeight.of(weight, 8)
        return Int8Linear(whole.numbers, whole.scale[:, 0], bias)
    if on_cpu and weight.dtype == torch.bfloat16 and _onednn_has_bfloat16():
        return BlockedLinear(weight, bias)
    return PlainLinear(weight, bias)


def _pack_quantized(weight: QuantizedWeight, bias: Tensor | None, *, on_cpu: bool) -> Linear:
    if weight.bits == 8:
        return Int8Linear(weight.numbers, weight.scale[:, 0], bias)
    if on_cpu and weight.numbers.shape[0] % 16 == 0:
        numbers = (weight.numbers + 8).to(torch.uint8)
        return Int4Linear(numbers, weight.scale, torch.zeros_like(weight.scale), bias)
    return PlainLinear(weight.expanded().to(torch.bfloat16), bias)


def _onednn_has_bfloat16() -> bool:
    return torch._C._has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def int4_numbers(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers from 0 to 15, scales and offsets: weight = (number - 8) * scale + offset.

    Returns:
        (outputs, inputs) uint8, then twice (outputs, inputs / GROUP) bfloat16.
    """
    groups = weight.float().view(weight.shape[0], -1, GROUP)
    least, most = groups.amin(2), groups.amax(2)
    scale = ((most - least) / 15).clamp_min(1e-12).to(torch.bfloat16)
    offset = (least + 8 * scale.float()).to(torch.bfloat16)
    steps = (groups - offset.float()[..., None]) / scale.float()[..., None] + 8
    return steps.round().clamp(0, 15).to(torch.uint8).view(weight.shape), scale, offset


class PlainLinear:
    """Weights as they are."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        return F.linear(x, self.weight, self.bias)


class BlockedLinear:
    """bfloat16 weights in oneDNN's blocked order: twice as fast as F.linear for one token."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 1)
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return out


class Int8Linear:
    """Whole numbers from -127 to 127 and one scale for each output."""

    def __init__(self, numbers: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Args: numbers (outputs, inputs) int8, scale (outputs,) bfloat16."""
        outputs, inputs = numbers.shape
        self.weight = numbers
        self.scale = scale
        self.bias = bias
        # The kernel reads whole vectors, also beyond the end of a matrix.
        self.fused = numbers.device.type == "cpu" and not (outputs % 16 or inputs % 32)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        flat = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
        if self.fused and flat.shape[0] < _INT8_ROWS:
            out = torch._weight_int8pack_mm(flat, self.weight, self.scale)
        else:
            out = F.linear(flat, self.weight.to(torch.bfloat16)) * self.scale
        out = out.to(x.dtype).view(*x.shape[:-1], -1)
        return out if self.bias is None else out + self.bias


class Int4Linear:
    """Whole numbers from 0 to 15, with a scale and an offset for every 32 of a row.

    The numbers are kept twice: packed for the kernel of single tokens, which has an
    order of its own, and two in a byte for expanding when many tokens are multiplied.
    """

    def __init__(self, numbers: Tensor, scale: Tensor, offset: Tensor, bias: Tensor | None) -> None:
        """Args: numbers (outputs, inputs) uint8; scale and offset (outputs, groups) bfloat16."""
        self.packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers.int(), 1)
        self.pairs = numbers[:, ::2] | (numbers[:, 1::2] << 4)
        self.scale, self.offset = scale, offset
        # (groups, outputs, 2)
        self.table = torch.stack((scale, offset), -1).transpose(0, 1).contiguous()
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        flat = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
        out: Tensor
        if flat.shape[0] < _INT4_ROWS:
            out = torch.ops.aten._weight_int4pack_mm_for_cpu(flat, self.packed, GROUP, self.table)
        else:
            out = F.linear(flat, self.expanded())
        out = out.to(x.dtype).view(*x.shape[:-1], -1)
        return out if self.bias is None else out + self.bias

    def expanded(self) -> Tensor:
        """(outputs, inputs) bfloat16, as the kernel understands the packed numbers."""
        numbers = torch.stack((self.pairs & 15, self.pairs >> 4), -1)
        groups = numbers.view(*self.scale.shape, GROUP).to(torch.bfloat16).sub_(8)
        expanded = torch.addcmul(self.offset[..., None], groups, self.scale[..., None])
        return expanded.reshape(self.pairs.shape[0], -1)
