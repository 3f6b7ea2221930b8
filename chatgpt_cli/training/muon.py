"""Muon: momentum whose update of each matrix is made orthogonal (Jordan et al. 2024).

PyTorch's own `torch.optim.Muon` takes a quarter of a small model's step on a CPU: it
iterates five times over one matrix after another. This one takes half of that, because

- matrices of one shape are multiplied together as a batch;
- three steps do what five did: their coefficients are chosen for the purpose (Amsel et
  al. 2025, "The Polar Express"), and the matrix is first divided by the fourth root of
  the sum of its singular values' fourth powers, which lies much nearer to the largest
  of them than the Frobenius norm does;
- attention's matrices are orthogonalised head by head, which is what they are used
  as, and costs a tenth of doing it whole.

Of matrices divided over processes by rows (FSDP) each process orthogonalises some, whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from chatgpt_cli.training.exchange import Exchange
from chatgpt_cli.training.parallel import own_part

# Odd polynomials a x + b x^3 + c x^5, applied one after another: together the best of
# their kind in the sense of the largest distance from 1 over [0.01, 1], which they map
# to [0.73, 1.27]. (Each minimises it over the range that the one before leaves.)
_POLYNOMIALS = (
    (8.0934, -23.6204, 17.4462),
    (3.6366, -2.7219, 0.5365),
    (2.6613, -1.9772, 0.4526),
)
# Outside its range a polynomial explodes, and rounding to bfloat16 pushes the largest
# singular values there: each step is given its input a little smaller.
_MARGIN = 1.02


@dataclass(frozen=True)
class Blocks:
    """How a matrix divides into `count` equal blocks along dimension `dim` (0 or 1)."""

    count: int = 1
    dim: int = 0

    def split(self, matrix: Tensor) -> Tensor:
        """(rows, cols) -> (count, rows / count, cols) or (count, rows, cols / count)."""
        rows, cols = matrix.shape
        if self.dim == 0:
            return matrix.reshape(self.count, -1, cols)
        return matrix.reshape(rows, self.count, -1).transpose(0, 1)

    def shape(self, rows: int, cols: int) -> tuple[int, int]:
        """The shape of each block of a (rows, cols) matrix."""
        return (rows // self.count, cols) if self.dim == 0 else (rows, cols // self.count)

    def join(self, blocks: Tensor) -> Tensor:
        """What `split` took apart."""
        if self.dim == 0:
            return blocks.flatten(0, 1)
        return blocks.transpose(0, 1).flatten(1, 2)


def orthogonalize(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrix of each, roughly: singular values near 1.

    Args:
        matrices: (batch, rows, cols) bfloat16, in which the iteration computes as in
            the paper; its own error is larger than that of rounding.

    Returns:
        (batch, rows, cols) bfloat16.
    """
    # The second step's gram matrix could be computed from the first one's. That saves a
    # seventh and rounds more, for 1.3% of a step (docs/speed.md).
    x, tall = matrices, matrices.shape[1] > matrices.shape[2]
    gram = _gram(x, tall)
    # Its norm is the root of the sum of the singular values' fourth powers. MPS has no float64.
    exact = torch.float32 if gram.device.type == "mps" else torch.float64
    size = torch.linalg.vector_norm(gram, dim=(1, 2), keepdim=True, dtype=exact) + 1e-30
    gram, x = gram * (1 / size).bfloat16(), x * size.rsqrt().bfloat16()
    inner, other = torch.empty_like(gram), torch.empty_like(x)
    for step, polynomial in enumerate(_POLYNOMIALS):
        a, b, c = (polynomial[i] / _MARGIN ** (2 * i + 1) for i in range(3))
        if step:
            gram = _gram(x, tall)
        torch.baddbmm(gram, gram, gram, beta=b, alpha=c, out=inner)
        if tall:
            torch.baddbmm(x, x, inner, beta=a, out=other)
        else:
            torch.baddbmm(x, inner, x, beta=a, out=other)
        x, other = other, x
    return x


def _gram(x: Tensor, tall: bool) -> Tensor:
    """The smaller of x^T x and x x^T, (batch, short, short)."""
    return torch.bmm(x.mT, x) if tall else torch.bmm(x, x.mT)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; decoupled weight decay.

    The update of a (rows, cols) matrix is scaled by sqrt(max(1, rows / cols)), so that
    one learning rate serves all shapes (Jordan 2024; the spectral condition of Yang,
    Simon & Bernstein 2023, up to a constant).
    """

    def __init__(
        self,
        matrices: Iterable[tuple[Tensor, Blocks]],
        *,
        lr: float,
        momentum: float,
        weight_decay: float = 0.0,
    ) -> None:
        pairs = list(matrices)
        self._blocks = dict(pairs)
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__([matrix for matrix, _ in pairs], defaults)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[self._blocks[matrix].shape(*matrix.shape)].append(matrix)
            for matrices in alike.values():
                self._update(matrices, group)

    def _update(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        """One step of matrices whose blocks have the same shape."""
        directions = [self._direction(matrix, group["momentum"]) for matrix in matrices]
        blocks = [self._blocks[matrix] for matrix in matrices]
        if isinstance(matrices[0], DTensor):
            exchange = Exchange.of(matrices)
            own = exchange.mine(blocks)
            whole = exchange.collect(directions)
            updates = exchange.give_back(_orthogonal(whole, own) if whole else [])
        else:
            updates = _orthogonal(directions, blocks)
        keep = 1 - group["lr"] * group["weight_decay"]
        for matrix, update in zip(matrices, updates, strict=True):
            scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
            part = own_part(matrix)
            part.mul_(keep).add_(update.to(part.dtype), alpha=-group["lr"] * scale)

    def _direction(self, matrix: Tensor, momentum: float) -> Tensor:
        """Nesterov's direction of a matrix, or of the rows held here, bfloat16."""
        if not self.state[matrix]:
            self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        buffer, gradient = self.state[matrix]["momentum_buffer"], matrix.grad
        assert gradient is not None
        buffer, gradient = own_part(buffer), own_part(gradient)
        buffer.lerp_(gradient, 1 - momentum)
        # The gradient and the momentum that it has just entered.
        return torch.lerp(gradient, buffer, momentum).bfloat16()


def _orthogonal(directions: list[Tensor], blocks: list[Blocks]) -> list[Tensor]:
    """Whole matrices orthogonalised by their blocks, which have one shape."""
    parts = [one.split(direction) for one, direction in zip(blocks, directions, strict=True)]
    updates = torch.split(orthogonalize(torch.cat(parts)), [one.count for one in blocks])
    return [one.join(update) for one, update in zip(blocks, updates, strict=True)]
