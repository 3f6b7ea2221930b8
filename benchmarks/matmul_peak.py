"""How fast this machine multiplies matrices: the limit of every training speed."""

from __future__ import annotations

import time

import torch

_SIZE = 2048


def matmul_peak(dtype: torch.dtype = torch.bfloat16, seconds: float = 3.0) -> float:
    """The best rate of a square matrix product, in FLOP/s, on the GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = _SIZE * 4 if device.type == "cuda" else _SIZE
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        _ = a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return float(2 * size**3 / best)


if __name__ == "__main__":
    print(matmul_peak())
