"""What a model is given at one step of training, whatever the task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

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
    segment_ids: Tensor  # (batch, time) int64, from 1; 0 is padding
    position_ids: Tensor  # (batch, time) int64, from 0 in each segment

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(
            self.input_ids.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.segment_ids.to(device, non_blocking=True),
            self.position_ids.to(device, non_blocking=True),
        )

    def pinned(self) -> Batch:
        """The same batch in memory from which a GPU copies while it computes."""
        return Batch(
            self.input_ids.pin_memory(),
            self.labels.pin_memory(),
            self.segment_ids.pin_memory(),
            self.position_ids.pin_memory(),
        )

    def split(self, size: int) -> Iterator[Batch]:
        """Micro-batches of at most `size` sequences, in order."""
        parts = (self.input_ids, self.labels, self.segment_ids, self.position_ids)
        for pieces in zip(*(torch.split(part, size) for part in parts), strict=True):
            yield Batch(*pieces)


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
