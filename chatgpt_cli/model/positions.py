"""Fixed position tables: rotary (RoPE) and sinusoidal."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from chatgpt_cli.config.model import RopeScaling


def rotary_tables(
    length: int, head_dim: int, theta: float, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of position * theta^(-2i / head_dim), each (length, head_dim / 2).

    Su et al. 2021, section 3.2.2. Computed in float32, as Hugging Face does, so that
    saved models give the same numbers there.
    """
    frequencies = rotary_frequencies(head_dim, theta, scaling)
    factor = 1.0 if scaling is None else scaling.attention_factor
    angles = torch.arange(length, dtype=torch.float32)[:, None] * frequencies
    return angles.cos() * factor, angles.sin() * factor


def rotary_frequencies(head_dim: int, theta: float, scaling: RopeScaling | None) -> Tensor:
    """Radians per position of each pair of dimensions, (head_dim / 2,)."""
    plain = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    return plain if scaling is None else _stretched(plain, head_dim, theta, scaling)


def _stretched(frequencies: Tensor, head_dim: int, theta: float, scaling: RopeScaling) -> Tensor:
    """Each frequency, (head_dim / 2,), between itself and itself divided by the factor."""
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    if scaling.kind == "llama3":
        # Full turns over the original context: below `low` stretch, above `high` keep.
        turns = scaling.original_context * frequencies / (2 * math.pi)
        low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
        kept = ((turns - low) / (high - low)).clamp(0, 1)
    else:
        low, high = (
            head_dim * math.log(scaling.original_context / (beta * 2 * math.pi))
            / (2 * math.log(theta))
            for beta in (scaling.beta_fast, scaling.beta_slow)
        )  # fmt: skip
        if scaling.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        if low == high:
            high += 0.001
        index = torch.arange(head_dim // 2, dtype=torch.float32)
        kept = 1 - ((index - low) / (high - low)).clamp(0, 1)
    return frequencies / scaling.factor * (1 - kept) + frequencies * kept


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + head_dim / 2]) by its position's angle, in float32.

    Pairs are taken half a head apart, the order of Llama and Qwen checkpoints.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def sinusoidal_table(length: int, dim: int) -> Tensor:
    """(length, dim) float32: sin(pos / 10000^(2i / dim)) at 2i, the cosine at 2i + 1.

    Vaswani et al. 2017, section 3.5.
    """
    positions = torch.arange(length, dtype=torch.float64)[:, None]
    angles = positions / 10_000 ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).float()
