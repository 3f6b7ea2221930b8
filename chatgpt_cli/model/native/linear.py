"""Matrices in the order that products.h reads them."""

from __future__ import annotations

import ctypes
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from chatgpt_cli.model.native.library import Matrix
from chatgpt_cli.model.packed_linear import Quantization, int4_numbers
from chatgpt_cli.model.quantized import GROUP, QuantizedWeight

_LANES = 16
_KINDS = {torch.float32: 0, torch.bfloat16: 1, "int8": 2, "int4": 3}


class NativeLinear:
    """A linear map for float32 vectors, computed by the compiled code."""

    def __init__(
        self,
        library: ctypes.CDLL,
        weight: Tensor | QuantizedWeight,
        bias: Tensor | None,
        quantization: Quantization,
    ) -> None:
        """`weight` is (outputs, inputs); see `pack_linear` for when int4 becomes int8."""
        self._library = library
        numbers = weight if isinstance(weight, Tensor) else weight.numbers
        self.outputs, self.inputs = numbers.shape
        kind, self.weight, self.scale = _stored(weight, quantization)
        self.bias = None if bias is None else _padded(bias.float())
        self._kind = _KINDS[kind]
        self.matrix = self.rows(0, self.outputs)

    def rows(self, first: int, count: int) -> Matrix:
        """Some of the outputs; `first` must be a multiple of 16."""
        block = self.weight[0].nbytes
        return Matrix(
            kind=self._kind,
            outputs=count,
            columns=self.inputs,
            inputs=-(-self.inputs // GROUP) * GROUP,
            weight=self.weight.data_ptr() + first // _LANES * block,
            scale=None if self.scale is None else self.scale[first:].data_ptr(),
            bias=None if self.bias is None else self.bias[first:].data_ptr(),
        )

    def __call__(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs), float32."""
        flat = x.reshape(-1, self.inputs).float().contiguous()
        out = torch.empty(flat.shape[0], self.outputs)
        self._library.product(
            ctypes.byref(self.matrix), flat.data_ptr(), flat.shape[0], out.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip
        return out.view(*x.shape[:-1], self.outputs)


def _stored(
    weight: Tensor | QuantizedWeight, quantization: Quantization
) -> tuple[torch.dtype | Literal["int8", "int4"], Tensor, Tensor | None]:
    """The kind of numbers, the numbers in blocks, and in 8 bits the outputs' scales."""
    numbers = weight if isinstance(weight, Tensor) else weight.numbers
    divides = numbers.shape[1] % GROUP == 0 and numbers.shape[0] % _LANES == 0
    if isinstance(weight, Tensor):
        if quantization == "int4" and divides:
            return "int4", _four_bits(*int4_numbers(weight)), None
        if quantization == "none":
            return weight.dtype, _blocks(weight, 4 // weight.element_size()), None
        weight = QuantizedWeight.of(weight, 8)
    elif weight.bits == 4:
        if not divides:
            return torch.bfloat16, _blocks(weight.expanded().to(torch.bfloat16), 2), None
        shifted = (weight.numbers + 8).to(torch.uint8)
        return "int4", _four_bits(shifted, weight.scale, torch.zeros_like(weight.scale)), None
    # Unsigned, as the instruction wants one of its factors.
    unsigned = (weight.numbers.short() + 128).to(torch.uint8)
    return "int8", _blocks(unsigned, 4), _padded(weight.scale[:, 0].float())


def _padded(values: Tensor) -> Tensor:
    """(outputs,) with zeros up to a whole block."""
    return F.pad(values, (0, -len(values) % _LANES))


def _blocks(numbers: Tensor, together: int) -> Tensor:
    """(outputs, inputs) to (blocks, inputs / together, lanes, together)."""
    outputs, inputs = numbers.shape
    padded = F.pad(numbers, (0, -inputs % GROUP, 0, -outputs % _LANES))
    split = padded.view(-1, _LANES, padded.shape[1] // together, together)
    return split.transpose(1, 2).contiguous()


def _four_bits(numbers: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Two numbers in a byte, four inputs apart, and behind each group its scales and offsets.

    Args:
        numbers: (outputs, inputs) uint8 from 0 to 15.
        scale: (outputs, groups) bfloat16.
        offset: the same.

    Returns:
        (blocks, groups, bytes)
    """
    blocks, groups = numbers.shape[0] // _LANES, scale.shape[1]
    # (blocks, lanes, groups, vectors, halves, 4)
    split = numbers.view(blocks, _LANES, groups, GROUP // 8, 2, 4)
    packed = (split[..., 0, :] | split[..., 1, :] << 4).permute(0, 2, 3, 1, 4)
    # Offsets in the lower half of a word, scales in the upper one (little-endian).
    table = torch.stack((offset, scale), -1).view(blocks, _LANES, groups, 2).transpose(1, 2)
    return torch.cat(
        (
            packed.reshape(blocks, groups, -1),
            table.contiguous().view(torch.uint8).view(blocks, groups, -1),
        ),
        -1,
    )
