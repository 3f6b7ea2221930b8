"""What a model says of the next token, and what nearly everyone asks of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class NextScores:
    """Of several texts, a row each.

    Attributes:
        logits: (rows, vocab) float32.
        best: (rows,) int64, the token with the highest one.
        total: (rows,) float32, the log of the sum of exponentials: logit - total is a
            log-probability (nats).
    """

    logits: Tensor
    best: Tensor
    total: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> Self:
        """Computed by PyTorch."""
        return cls(logits, logits.argmax(-1), torch.logsumexp(logits, -1))

    def rows(self, first: int, count: int) -> Self:
        """Some of the texts."""
        part = slice(first, first + count)
        return type(self)(self.logits[part], self.best[part], self.total[part])
