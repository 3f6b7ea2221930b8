"""Fixed position tables: rotary (RoPE) and sinusoidal."""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_tables(length: int, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of position * theta^(-2i / head_dim), each (length, head_dim / 2).

    Su et al. 2021, section 3.2.2. Computed in float32, as Hugging Face does, so that
    saved models give the same numbers there.
    """
    frequencies = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * frequencies
    return angles.cos(), angles.sin()


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
