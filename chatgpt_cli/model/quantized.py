"""Weights in 8 or 4 bits that stay so: computed with, adapted and saved as whole numbers.

`packed_linear` rounds the weights of a model for writing; here they are rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chatgpt_cli.model.transformer import Transformer

Bits = Literal[8, 4]
# Weights of a row that share one scale in 4 bits, as many as in llama.cpp's Q4 formats. In
# 8 bits the whole row does.
GROUP = 32


@dataclass(frozen=True)
class QuantizedWeight:
    """weight = number * scale of its group."""

    bits: Bits
    numbers: Tensor  # (outputs, inputs) int8, from -127 to 127 or from -8 to 7
    scale: Tensor  # (outputs, groups) bfloat16

    @classmethod
    def of(cls, weight: Tensor, bits: Bits) -> Self:
        """Round to the nearest.

        Choosing scales by squared error instead of by the largest weight was tried: at
        32 weights a scale it changes perplexity by less than it varies.

        Args:
            weight: (outputs, inputs).
            bits: 4 takes inputs that divide into groups.

        Raises:
            ValueError: if they do not.
        """
        outputs, inputs = weight.shape
        size = GROUP if bits == 4 else inputs
        if inputs % size:
            raise ValueError(f"{inputs} inputs do not divide into groups of {size}")
        groups = weight.float().view(outputs, -1, size)
        least, most = groups.amin(2), groups.amax(2)
        if bits == 8:
            scale = torch.maximum(-least, most) / 127
        else:
            # There is one number more below zero: the larger side gets it, by its sign.
            scale = torch.where(-least >= most, -least, -most) / 8
        scale = scale.to(torch.bfloat16)
        scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        numbers = (groups / scale.float()[..., None]).round()
        low, high = (-127, 127) if bits == 8 else (-8, 7)
        numbers = numbers.clamp(low, high).to(torch.int8).view(outputs, inputs)
        return cls(bits, numbers, scale)

    def expanded(self) -> Tensor:
        """(outputs, inputs) float32."""
        return _expanded(self.numbers, self.scale)

    def rows(self, change: Callable[[Tensor], Tensor]) -> Self:
        """With its outputs in another order."""
        return replace(self, numbers=change(self.numbers), scale=change(self.scale))

    @classmethod
    def joined(cls, parts: Sequence[QuantizedWeight]) -> Self:
        """One map of the same inputs with the outputs of all, which have the same bits."""
        numbers, scale = [one.numbers for one in parts], [one.scale for one in parts]
        return cls(parts[0].bits, torch.cat(numbers), torch.cat(scale))

    @property
    def device(self) -> torch.device:
        """Where the numbers lie."""
        return self.numbers.device


class QuantizedLinear(nn.Module):
    """x W^T + b with W in whole numbers, which are not trained."""

    numbers: Tensor
    scale: Tensor

    def __init__(self, weight: QuantizedWeight, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.numbers.shape
        self.bits = weight.bits
        self.register_buffer("numbers", weight.numbers, persistent=False)
        self.register_buffer("scale", weight.scale, persistent=False)
        self.bias = bias

    @property
    def quantized(self) -> QuantizedWeight:
        """W as it is stored."""
        return QuantizedWeight(self.bits, self.numbers, self.scale.to(torch.bfloat16))

    @property
    def weight(self) -> Tensor:
        """Expanded: (outputs, inputs) float32."""
        return self.quantized.expanded()

    def forward(self, input: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs); the gradient goes to the input alone."""
        out: Tensor = _Product.apply(input, self.numbers, self.scale)  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias.to(out.dtype)


class _Product(torch.autograd.Function):
    """x W^T that keeps W's whole numbers for the backward pass, not the expanded weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, numbers: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(numbers, scale)
        ctx.dtype = x.dtype
        return F.linear(x, _expanded(numbers, scale).to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = outputs
        numbers, scale = ctx.saved_tensors
        weight = _expanded(numbers, scale).to(gradient.dtype)
        return (gradient @ weight).to(ctx.dtype), None, None


def _expanded(numbers: Tensor, scale: Tensor) -> Tensor:
    """(outputs, inputs) float32."""
    groups = numbers.view(*scale.shape, -1).float() * scale.float()[..., None]
    return groups.view(numbers.shape)


def quantize(model: Transformer, bits: Bits) -> None:
    """Round the matrices inside the blocks; the embedding and the output stay as they are.

    Raises:
        ValueError: if a matrix does not divide into groups.
    """
    rounded = {name: QuantizedWeight.of(linear.weight, bits) for name, linear in _linears(model)}
    install(model, rounded)


def install(model: Transformer, weights: dict[str, QuantizedWeight]) -> None:
    """Put quantized weights in the place of a model's own, by the names of its linear maps."""
    for name, linear in list(_linears(model)):
        if name in weights:
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, QuantizedLinear(weights[name], linear.bias))


def expand(model: Transformer) -> None:
    """Ordinary weights of the same values, for what cannot compute with others."""
    for name, child in list(model.named_modules()):
        if isinstance(child, QuantizedLinear):
            sizes = (child.in_features, child.out_features, child.bias is not None)
            linear = nn.Linear(*sizes, device="meta")
            linear.weight = nn.Parameter(child.weight)
            linear.register_parameter("bias", child.bias)
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, linear)


def quantized_weights(model: Transformer) -> dict[str, QuantizedWeight]:
    """What `install` put there, by name."""
    return {
        name: child.quantized
        for name, child in model.named_modules()
        if isinstance(child, QuantizedLinear)
    }


def _linears(model: Transformer) -> Iterator[tuple[str, nn.Linear]]:
    for name, child in model.named_modules():
        if isinstance(child, nn.Linear) and ".layers." in name:
            yield name, child
