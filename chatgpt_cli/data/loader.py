"""Token shards as batches for pretraining."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from chatgpt_cli.data.batch import IGNORE, Batch
from chatgpt_cli.data.shards import Borders, TokenShards
from chatgpt_cli.errors import DataError


def window_batch(windows: np.ndarray, borders: Borders) -> Batch:
    """Windows of a token stream as a batch for next-token prediction.

    Documents begin with a token that starts a new segment and is no target, since
    nothing before it tells what comes; unless it is also what ends the one before.

    Args:
        windows: (batch, time + 1) token ids, int64.
        borders: the tokens around documents.
    """
    ids, following = windows[:, :-1], windows[:, 1:]
    starts = ids == borders.bos
    unlearnt = (following == borders.bos) & (borders.bos != borders.eos)
    index = np.arange(ids.shape[1])
    segment_starts = np.maximum.accumulate(np.where(starts, index, 0), axis=1)
    return Batch(
        input_ids=torch.from_numpy(ids.copy()),
        labels=torch.from_numpy(np.where(unlearnt, IGNORE, following)),
        segment_ids=torch.from_numpy(1 + np.cumsum(starts, axis=1, dtype=np.int64)),
        position_ids=torch.from_numpy(index - segment_starts),
    )


class TokenWindows:
    """Next-token prediction over the whole training stream (a `BatchSource`).

    An epoch cuts the stream into windows of `sequence_length` tokens, beginning at an
    offset of its own and wrapping around the end, and shuffles them; so no tail is
    thrown away, and tokens meet other neighbours in each epoch.
    """

    def __init__(
        self, shards: TokenShards, *, batch_size: int, sequence_length: int, seed: int
    ) -> None:
        """Raises DataError if the text is shorter than one sequence."""
        self.batch_size = batch_size
        self.sequence_length = sequence_length
        self._shards = shards
        self._seed = seed
        self._rows = shards.num_tokens // sequence_length
        if self._rows == 0:
            raise DataError(
                f"the training text has {shards.num_tokens:,} tokens, fewer than one sequence "
                f"of {sequence_length:,}",
                place="data.sources",
                remedy="Add more text, or set a smaller pretrain.sequence_length.",
            )
        self._order: tuple[int, int, np.ndarray] | None = None

    @property
    def batches_per_epoch(self) -> float:
        """How many batches hold every window once; need not be whole."""
        return self._rows / self.batch_size

    def fingerprint(self) -> dict[str, object]:
        """What the order of batches depends on: the same here means the same batches."""
        return {
            "batch_size": self.batch_size,
            "sequence_length": self.sequence_length,
            "seed": self._seed,
            "data": self._shards.fingerprint(),
        }

    def batch(self, index: int) -> Batch:
        """Batch number `index`, a function of data, seed and index alone."""
        return window_batch(self.windows(index), self._shards.borders)

    def windows(self, index: int) -> np.ndarray:
        """The tokens of batch `index`: (batch, sequence_length + 1) int64."""
        first = index * self.batch_size
        rows = [self._window(first + row) for row in range(self.batch_size)]
        # Shards hold unsigned numbers, in which IGNORE would become a large token id.
        return np.stack(rows).astype(np.int64)

    def _window(self, row: int) -> np.ndarray:
        epoch, position = divmod(row, self._rows)
        offset, order = self._epoch(epoch)
        return self._read(int(order[position]) * self.sequence_length + offset)

    def _epoch(self, epoch: int) -> tuple[int, np.ndarray]:
        """The offset and the order of the windows in an epoch."""
        if self._order is None or self._order[0] != epoch:
            random = np.random.default_rng([self._seed, epoch])
            offset = int(random.integers(self.sequence_length))
            self._order = (epoch, offset, random.permutation(self._rows).astype(np.int64))
        return self._order[1], self._order[2]

    def _read(self, start: int) -> np.ndarray:
        total = self._shards.num_tokens
        pieces, wanted = [], self.sequence_length + 1
        while wanted:
            start %= total
            piece = self._shards.read(start, min(start + wanted, total))
            pieces.append(piece)
            start += len(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


class TokenStream(Protocol):
    """Documents' tokens one after another, each document with its borders."""

    @property
    def borders(self) -> Borders:
        """The tokens before and after each document."""

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """(tokens,) from `start` to before `stop`."""


class HeldOutWindows:
    """A fixed part of the validation stream, the same for every evaluation.

    The windows lie one after another, each overlapping the next by the one token that
    is a target of the first and an input of the second. When the stream has more
    than `max_tokens`, evenly spread windows stand for it.
    """

    def __init__(
        self, shards: TokenStream, *, batch_size: int, sequence_length: int, max_tokens: int | None
    ) -> None:
        self._shards = shards
        self._batch_size = batch_size
        self._length = sequence_length
        count = -(-max(shards.num_tokens - 1, 0) // sequence_length)
        wanted = count if max_tokens is None else max(1, max_tokens // sequence_length)
        chosen = np.linspace(0, count, num=min(count, wanted), endpoint=False)
        self._starts = chosen.astype(np.int64) * sequence_length

    def __iter__(self) -> Iterator[Batch]:
        for first in range(0, len(self._starts), self._batch_size):
            starts = self._starts[first : first + self._batch_size]
            places = starts[:, None] + np.arange(self._length + 1)  # (batch, time + 1)
            rows = np.full(places.shape, self._shards.borders.bos, dtype=np.int64)
            for row, start in enumerate(starts.tolist()):
                stop = min(start + self._length + 1, self._shards.num_tokens)
                rows[row, : stop - start] = self._shards.read(start, stop)
            batch = window_batch(rows, self._shards.borders)
            # What fills the last window is no target, whatever token it is.
            beyond = torch.from_numpy(places[:, 1:] >= self._shards.num_tokens)
            yield replace(batch, labels=batch.labels.masked_fill(beyond, IGNORE))
