"""How fast this machine multiplies matrices: the limit of every training speed."""

from __future__ import annotations

import torch

from chatgpt_cli.diagnosis import matmul_rate


def matmul_peak(dtype: torch.dtype = torch.bfloat16, seconds: float = 3.0) -> float:
    """The best rate of a square matrix product, in FLOP/s, on the GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return matmul_rate(dtype, device, seconds)


if __name__ == "__main__":
    print(matmul_peak())
