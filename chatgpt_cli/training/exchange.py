"""Whole matrices from rows that are spread over processes, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

T = TypeVar("T")


@dataclass(frozen=True)
class Exchange:
    """Matrices of which each process holds some rows; matrix i is computed by rank i % ranks.

    Every process sends each matrix's rows to whoever computes it, and gets its rows of the
    result back: all of it is sent twice, in bfloat16, and no matrix is computed twice.

    Attributes:
        shapes: (rows, cols) of each whole matrix.
        group: the processes among which they are divided.
        rank, ranks: of this process in it.
        device: where the rows lie.
    """

    shapes: tuple[tuple[int, int], ...]
    group: dist.ProcessGroup
    rank: int
    ranks: int
    device: torch.device

    @classmethod
    def of(cls, matrices: Sequence[Tensor]) -> Exchange:
        """For matrices that `fully_shard` divided, along the last dimension of its mesh."""
        first = matrices[0]
        assert isinstance(first, DTensor)
        group = first.device_mesh.get_group(first.device_mesh.ndim - 1)
        shapes = tuple((one.shape[0], one.shape[1]) for one in matrices)
        rank, ranks = dist.get_rank(group), dist.get_world_size(group)
        return cls(shapes, group, rank, ranks, first.to_local().device)

    def mine(self, items: Sequence[T]) -> list[T]:
        """Of one item for each matrix, those of the matrices that are computed here."""
        return list(items[self.rank :: self.ranks])

    def collect(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """The whole matrices that are computed here.

        Args:
            parts: of every matrix the rows held here, (own rows, cols).
        """
        ours = self.mine(self.shapes)
        sent = [self._of(parts, rank) for rank in range(self.ranks)]
        sizes = [
            sum(self._rows(rows, rank) * cols for rows, cols in ours) for rank in range(self.ranks)
        ]
        received = self._all_to_all(sent, sizes)
        pieces: list[list[Tensor]] = [[] for _ in ours]
        for rank, flat in enumerate(received):
            counts = [self._rows(rows, rank) * cols for rows, cols in ours]
            for piece, part, (_, cols) in zip(pieces, torch.split(flat, counts), ours, strict=True):
                piece.append(part.view(-1, cols))
        return [torch.cat(piece) for piece in pieces]

    def give_back(self, results: Sequence[Tensor]) -> list[Tensor]:
        """Of every matrix's result the rows held here, from the whole ones computed here."""
        sent = []
        for rank in range(self.ranks):
            ranges = [self._range(one.shape[0], rank) for one in results]
            rows = [
                one[part.start : part.stop].flatten()
                for one, part in zip(results, ranges, strict=True)
            ]
            sent.append(torch.cat(rows) if rows else torch.empty(0, device=self.device))
        sizes = [
            sum(self._rows(n, self.rank) * cols for n, cols in self.shapes[rank :: self.ranks])
            for rank in range(self.ranks)
        ]
        found: list[Tensor] = [torch.empty(0)] * len(self.shapes)
        for rank, flat in enumerate(self._all_to_all(sent, sizes)):
            numbers = range(rank, len(self.shapes), self.ranks)
            counts = [self._rows(self.shapes[n][0], self.rank) * self.shapes[n][1] for n in numbers]
            for number, part in zip(numbers, torch.split(flat, counts), strict=True):
                found[number] = part.view(-1, self.shapes[number][1])
        return found

    def _of(self, parts: Sequence[Tensor], rank: int) -> Tensor:
        """The rows held here of the matrices that `rank` computes, end to end."""
        flat = [part.flatten() for part in parts[rank :: self.ranks]]
        return torch.cat(flat) if flat else torch.empty(0, device=self.device)

    def _all_to_all(self, sent: Sequence[Tensor], sizes: Sequence[int]) -> Sequence[Tensor]:
        """What each rank sends here, `sizes` numbers, for what is sent to each."""
        flat = torch.cat([one.bfloat16() for one in sent])
        received = torch.empty(sum(sizes), dtype=torch.bfloat16, device=self.device)
        dist.all_to_all_single(
            received, flat, list(sizes), [one.numel() for one in sent], group=self.group
        )
        return torch.split(received, list(sizes))

    def _range(self, rows: int, rank: int) -> range:
        """The rows that a rank holds: as `torch.chunk` divides, the last ones may have fewer."""
        size = -(-rows // self.ranks)
        return range(min(rank * size, rows), min((rank + 1) * size, rows))

    def _rows(self, rows: int, rank: int) -> int:
        return len(self._range(rows, rank))
