"""Pretraining text between the batches of finetuning, so that it is not forgotten."""

from __future__ import annotations

import math

from chatgpt_cli.data.batch import Batch, BatchSource


class ReplayedBatches:
    """Training batches (a `BatchSource`), a share of which are text, evenly spread."""

    def __init__(self, rows: BatchSource, text: BatchSource, share: float) -> None:
        """Args: rows and text have batches of one shape; share is below 1."""
        self.batch_size = rows.batch_size
        self.sequence_length = rows.sequence_length
        self._rows = rows
        self._text = text
        self._share = share

    @property
    def batches_per_epoch(self) -> float:
        """Batches until every row was seen once."""
        return self._rows.batches_per_epoch / (1 - self._share)

    def fingerprint(self) -> dict[str, object]:
        """Those of both kinds of batches, and the share."""
        text = self._text.fingerprint()
        return {**self._rows.fingerprint(), "replay": self._share, "text": text["data"]}

    def batch(self, index: int) -> Batch:
        """Batch number `index`, of rows or, evenly spread, of pretraining text."""
        before = math.floor(index * self._share)
        if math.floor((index + 1) * self._share) > before:
            return self._text.batch(before)
        return self._rows.batch(index - before)
