"""Pretraining text between the batches of finetuning."""

from __future__ import annotations

import pytest
import torch

from chatgpt_cli.data.batch import Batch
from chatgpt_cli.data.replay import ReplayedBatches


class Numbered:
    """Batches that hold their own number; text counts from 1,000."""

    batch_size, sequence_length, batches_per_epoch = 2, 4, 30.0

    def __init__(self, first: int) -> None:
        self.first = first

    def batch(self, index: int) -> Batch:
        part = torch.full((2, 4), self.first + index)
        return Batch(part, part, part, part)

    def fingerprint(self) -> dict[str, object]:
        return {"data": str(self.first)}


@pytest.mark.parametrize("share", [0.0, 0.25, 0.3, 0.5])
def test_shares_and_orders_are_kept(share: float) -> None:
    mixed = ReplayedBatches(Numbered(0), Numbered(1000), share)
    found = [int(mixed.batch(index).input_ids[0, 0]) for index in range(40)]
    rows, text = [n for n in found if n < 1000], [n for n in found if n >= 1000]
    assert rows == list(range(len(rows))) and text == [1000 + n for n in range(len(text))]
    assert len(text) == pytest.approx(40 * share, abs=1)
    assert mixed.batches_per_epoch == pytest.approx(30 / (1 - share))
    # Evenly spread: never more than one from what is due.
    for count in range(41):
        assert abs(sum(n >= 1000 for n in found[:count]) - count * share) <= 1
