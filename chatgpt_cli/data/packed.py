"""Encoded rows of any kind as packed batches: shuffled to train on, in order to validate with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch

from chatgpt_cli.data.batch import IGNORE, Batch
from chatgpt_cli.data.packing import ShuffledBins, pack
from chatgpt_cli.tokenizer.chat import Rendered

# Tokens of a validation batch: enough to keep a processor busy, without gradients.
_VALIDATED = 8192


class EncodedRows(Protocol):
    """Rows as tokens, to be packed into sequences."""

    def __len__(self) -> int:
        """How many rows."""

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) tokens of each."""

    def hash(self) -> str:
        """SHA-256 of all of it."""

    def rows(self, bins: list[list[int]], length: int) -> Batch:
        """Rows put into sequences of `length` tokens."""


class Place(NamedTuple):
    """Where an item lies in a batch, and which tokens it has."""

    item: int
    row: int
    columns: slice
    tokens: slice
    segment: int

    @property
    def following(self) -> tuple[slice, slice]:
        """The columns of next-token labels, and the tokens that these are.

        A label stands where the token before it does.
        """
        columns, tokens = self.columns, self.tokens
        return slice(columns.start, columns.stop - 1), slice(tokens.start + 1, tokens.stop)


def places(bins: Sequence[Sequence[int]], starts: np.ndarray) -> Iterator[Place]:
    """The place of every item when each bin fills a row from the left.

    Args:
        bins: the items of each row, by their numbers.
        starts: (items + 1,) where the tokens of each begin.
    """
    for row, members in enumerate(bins):
        at = 0
        # Segment 0 is padding, and 1 what goes on from the row before: nothing does.
        for segment, item in enumerate(members, start=2):
            begin, end = int(starts[item]), int(starts[item + 1])
            yield Place(item, row, slice(at, at + end - begin), slice(begin, end), segment)
            at += end - begin


def laid_out(ids: np.ndarray, where: Iterable[Place], labels: np.ndarray, pad_id: int) -> Batch:
    """Items in their places, each a segment of its own.

    Args:
        ids: (tokens,) of all items, end to end.
        where: see `places`.
        labels: (batch, time) int64.
        pad_id: fills what is left.
    """
    inputs = np.full(labels.shape, pad_id, dtype=np.int64)
    segments = np.zeros(labels.shape, dtype=np.int64)
    positions = np.zeros(labels.shape, dtype=np.int64)
    for one in where:
        inputs[one.row, one.columns] = ids[one.tokens]
        segments[one.row, one.columns] = one.segment
        positions[one.row, one.columns] = np.arange(one.tokens.stop - one.tokens.start)
    return Batch(*(torch.from_numpy(part) for part in (inputs, labels, segments, positions)))


@dataclass(frozen=True)
class Conversations:
    """Encoded conversations, end to end: ids, targets, and where each begins."""

    ids: np.ndarray  # (tokens,) int32
    targets: np.ndarray  # (tokens,) bool: learn to say this token
    starts: np.ndarray  # (conversations + 1,) int64
    pad_id: int

    @classmethod
    def of(cls, rendered: Iterable[Rendered], pad_id: int) -> Self:
        """Each is packed as it comes: lists of Python numbers take eight times the room."""
        ids, targets = [np.zeros(0, np.int32)], [np.zeros(0, np.bool_)]
        for one in rendered:
            ids.append(np.array(one.ids, dtype=np.int32))
            targets.append(np.array(one.targets, dtype=np.bool_))
        starts = np.cumsum([len(part) for part in ids], dtype=np.int64)
        return cls(np.concatenate(ids), np.concatenate(targets), starts, pad_id)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(conversations,) tokens of each."""
        return np.diff(self.starts)

    def hash(self) -> str:
        """SHA-256 of all of it."""
        return sha256_of(self.ids, self.targets, self.starts)

    def rows(self, bins: list[list[int]], length: int) -> Batch:
        """Conversations put into rows of `length` tokens; padding is segment 0."""
        where = list(places(bins, self.starts))
        labels = np.full((len(bins), length), IGNORE, dtype=np.int64)
        for one in where:
            columns, tokens = one.following
            labels[one.row, columns] = np.where(self.targets[tokens], self.ids[tokens], IGNORE)
        return laid_out(self.ids, where, labels, self.pad_id)


def sha256_of(*arrays: np.ndarray) -> str:
    """SHA-256 of the bytes of arrays, one after the other."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()


class PackedBatches:
    """Training batches (a `BatchSource`): shuffled and packed anew in each epoch."""

    def __init__(
        self,
        data: EncodedRows,
        *,
        batch_size: int,
        sequence_length: int,
        packing: bool,
        seed: int,
    ) -> None:
        """Args: `packing` puts several rows into a sequence."""
        self.batch_size = batch_size
        self.sequence_length = sequence_length
        self._data = data
        self._packing = packing
        self._seed = seed
        self._rows = ShuffledBins(data.lengths, sequence_length, packing=packing, seed=seed)

    @property
    def batches_per_epoch(self) -> float:
        """Batches until every row was seen once, in the first epoch."""
        return len(self._rows.epoch(0)) / self.batch_size

    def fingerprint(self) -> dict[str, object]:
        """The settings and the data, by a hash."""
        return {
            "batch_size": self.batch_size,
            "sequence_length": self.sequence_length,
            "packing": self._packing,
            "seed": self._seed,
            "conversations": len(self._data),
            "data": self._data.hash(),
        }

    def batch(self, index: int) -> Batch:
        """Batch `index`, counted from 0 since the start of training."""
        first = index * self.batch_size
        rows = [self._rows[first + number] for number in range(self.batch_size)]
        return self._data.rows(rows, self.sequence_length)


@dataclass(frozen=True)
class HeldOutRows:
    """Validation batches: every row once, in a fixed order.

    With `max_tokens`, sequences evenly spread over them stand for all.
    """

    data: EncodedRows
    sequence_length: int
    max_tokens: int | None = None

    def some(self, max_tokens: int) -> HeldOutRows:
        """At most so many tokens of them."""
        return replace(self, max_tokens=max_tokens)

    def __iter__(self) -> Iterator[Batch]:
        bins = pack(self.data.lengths, self.sequence_length)
        if self.max_tokens is not None:
            wanted = max(1, self.max_tokens // self.sequence_length)
            chosen = np.linspace(0, len(bins), num=min(len(bins), wanted), endpoint=False)
            bins = [bins[int(index)] for index in chosen]
        size = max(1, _VALIDATED // self.sequence_length)
        for first in range(0, len(bins), size):
            yield self.data.rows(bins[first : first + size], self.sequence_length)
