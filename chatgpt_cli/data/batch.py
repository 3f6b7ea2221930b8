"""What a model is given at one step of training, whatever the task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Protocol, Self

import torch
from torch import Tensor

# A label that is not a target, as in torch.nn.functional.cross_entropy.
IGNORE = -100


@dataclass(frozen=True)
class Batch:
    """Token ids, their targets, and which of them may see each other.

    `labels[b, t]` is the token to be predicted at position t (for next-token
    prediction already shifted: the token at t + 1), or IGNORE. Tokens attend only
    to tokens of the same `segment_ids` value; padding has segment 0 and no targets.
    """

    input_ids: Tensor  # (batch, time) int64
    labels: Tensor  # (batch, time) int64
    segment_ids: Tensor  # (batch, time) int64, from 1; 0 is padding (see `begins`)
    position_ids: Tensor  # (batch, time) int64, from 0 in each segment

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    @property
    def begins(self) -> Tensor:
        """Whether a token is the first of its document or conversation: (batch, time) bool.

        A row's segment 1 goes on from the row before.
        """
        return (self.position_ids == 0) & (self.segment_ids != 1)

    def inputs(self) -> dict[str, Tensor]:
        """What the model is called with."""
        return {
            "input_ids": self.input_ids,
            "position_ids": self.position_ids,
            "segment_ids": self.segment_ids,
        }

    def to(self, device: torch.device) -> Self:
        """The same batch on a device."""
        return self._each(lambda part: part.to(device, non_blocking=True))

    def pinned(self) -> Self:
        """The same batch in memory from which a GPU copies while it computes."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{name: change(part) for name, part in self._parts().items()})

    def _parts(self) -> dict[str, Tensor]:
        """Every tensor by name; objectives with more than these four derive a batch of theirs."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def split(self, size: int) -> Iterator[Self]:
        """Micro-batches of at most `size` sequences, in order."""
        parts = self._parts()
        for pieces in zip(*(torch.split(part, size) for part in parts.values()), strict=True):
            yield replace(self, **dict(zip(parts, pieces, strict=True)))

    def share(self, rank: int, ranks: int, *, together: int = 1) -> Self:
        """The sequences of one of several processes: one run of them after another.

        All shares are equally long: where the sequences do not divide evenly, the last
        ones end with copies without targets, which add nothing to any loss.

        Args:
            rank: whose, from 0.
            ranks: how many processes there are.
            together: so many sequences are never parted.
        """
        if ranks == 1:
            return self
        size = together * -(-len(self) // (together * ranks))
        start, stop = rank * size, (rank + 1) * size
        if stop <= len(self):
            # No copy, which would leave the memory that a GPU copies from while it computes.
            return self._each(lambda part: part[start:stop])
        rows = torch.arange(start, stop)
        beyond = rows >= len(self)
        share = self._each(lambda part: part[rows % len(self)])
        return replace(share, labels=share.labels.masked_fill(beyond[:, None], IGNORE))


@dataclass(frozen=True)
class BranchedBatch(Batch):
    """Conversations with one prompt share it: each is a branch of their segment.

    A token sees the prompt, branch 0, and its own branch; its position is what it would
    be without the others.
    """

    branch_ids: Tensor  # (batch, time) int64

    def inputs(self) -> dict[str, Tensor]:
        """What the model is called with."""
        return {**super().inputs(), "branch_ids": self.branch_ids}


class BatchSource(Protocol):
    """An endless, reproducible stream of batches.

    Batch k is a pure function of the data, the seed and k, so resuming needs no
    state: training goes on with the next k. Each epoch is shuffled anew, and
    a batch at an epoch's end is filled up from the next epoch.
    """

    @property
    def batch_size(self) -> int:
        """Sequences in a batch."""

    @property
    def sequence_length(self) -> int:
        """Tokens in a sequence."""

    @property
    def batches_per_epoch(self) -> float:
        """Batches until every row was seen once (of the first epoch, if they differ)."""

    def batch(self, index: int) -> Batch:
        """Batch `index`, counted from 0 since the start of training."""

    def fingerprint(self) -> dict[str, object]:
        """What must not change between a run and its continuation (JSON values)."""
