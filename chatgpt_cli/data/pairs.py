"""Pairs of a better and a worse answer as batches for preference training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chatgpt_cli.data.batch import Batch
from chatgpt_cli.data.packed import Conversations, places
from chatgpt_cli.data.packing import ShuffledBins, pack


@dataclass(frozen=True)
class PairBatch(Batch):
    """Rows 2i and 2i + 1 belong together: where one has a better answer, the other has, in
    a segment of the same number, the worse answer to the same question.
    """

    # The log-probability of each label by the model before training; 0 without a label.
    reference: Tensor  # (batch, time) float32

    def split(self, size: int) -> Iterator[PairBatch]:
        """Micro-batches that part no pair: of two rows at least."""
        yield from super().split(max(2, size - size % 2))

    def share(self, rank: int, ranks: int, *, together: int = 2) -> PairBatch:
        """As of any batch; pairs stay together."""
        return super().share(rank, ranks, together=together)


@dataclass(frozen=True)
class Pairs:
    """Encoded pairs: conversation 2i is the better of pair i, 2i + 1 the worse.

    `reference` is laid out like the conversations' ids; before it is known it is zero.
    """

    conversations: Conversations
    reference: np.ndarray  # (tokens,) float32

    def __len__(self) -> int:
        return len(self.conversations) // 2

    @property
    def lengths(self) -> np.ndarray:
        """(pairs,) tokens of the longer of each."""
        longer: np.ndarray = self.conversations.lengths.reshape(-1, 2).max(1)
        return longer

    def rows(self, bins: list[list[int]], length: int) -> PairBatch:
        """Pairs put into two rows of `length` tokens for each bin."""
        plain = self.conversations.rows(_sides(bins), length)
        reference = torch.zeros(plain.labels.shape)
        for row, place, tokens in self._places(bins):
            reference[row, place] = torch.from_numpy(self.reference[tokens])
        parts = (plain.input_ids, plain.labels, plain.segment_ids, plain.position_ids)
        return PairBatch(*parts, reference)

    def set_reference(self, bins: list[list[int]], values: Tensor) -> None:
        """Keep what was computed of a batch that `rows` made: (2 * bins, length)."""
        for row, place, tokens in self._places(bins):
            self.reference[tokens] = values[row, place].numpy()

    def _places(self, bins: list[list[int]]) -> Iterator[tuple[int, slice, slice]]:
        """Of each answer in a batch: its row, where its labels lie there, and which they are."""
        for one in places(_sides(bins), self.conversations.starts):
            yield one.row, *one.following


def _sides(bins: list[list[int]]) -> list[list[int]]:
    """The conversations of each row: first the better ones of a bin, then the worse."""
    return [[2 * pair + side for pair in members] for members in bins for side in (0, 1)]


class PairBatches:
    """Training batches (a `BatchSource`) of `batch_size` rows: shuffled, packed anew each epoch."""

    def __init__(self, pairs: Pairs, *, batch_size: int, sequence_length: int, seed: int) -> None:
        self.batch_size = batch_size
        self.sequence_length = sequence_length
        self._pairs = pairs
        self._seed = seed
        self._bins = ShuffledBins(pairs.lengths, sequence_length, packing=True, seed=seed)

    @property
    def batches_per_epoch(self) -> float:
        """How many batches hold every pair once."""
        return 2 * len(self._bins.epoch(0)) / self.batch_size

    def fingerprint(self) -> dict[str, object]:
        """What the order of batches depends on."""
        return {
            "batch_size": self.batch_size,
            "sequence_length": self.sequence_length,
            "seed": self._seed,
            "pairs": len(self._pairs),
            "data": self._pairs.conversations.hash(),
        }

    def batch(self, index: int) -> PairBatch:
        """Batch number `index`: better answers in its first half, worse ones in its second."""
        count = self.batch_size // 2
        bins = [self._bins[index * count + number] for number in range(count)]
        return self._pairs.rows(bins, self.sequence_length)


@dataclass(frozen=True)
class HeldOutPairs:
    """Every pair once, in a fixed order; `bins` are what each batch holds."""

    pairs: Pairs
    batch_size: int
    sequence_length: int

    def bins(self) -> Iterator[list[list[int]]]:
        """The pairs of one batch after another."""
        packed = pack(self.pairs.lengths, self.sequence_length)
        for first in range(0, len(packed), self.batch_size):
            yield packed[first : first + self.batch_size]

    def __iter__(self) -> Iterator[PairBatch]:
        for bins in self.bins():
            yield self.pairs.rows(bins, self.sequence_length)
