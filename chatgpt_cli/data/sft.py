"""Conversations as batches for supervised finetuning."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from chatgpt_cli.config.schema import FinetuneSection, Rows
from chatgpt_cli.data.batch import IGNORE, Batch
from chatgpt_cli.data.packing import ShuffledBins, pack
from chatgpt_cli.data.problems import summary
from chatgpt_cli.data.row_encoder import Learnable, RowEncoder
from chatgpt_cli.data.rows import RowReport, read_learnt
from chatgpt_cli.data.split import divide_rows, text_of
from chatgpt_cli.errors import DataError
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Conversations:
    """Encoded conversations, end to end: ids, targets, and where each begins."""

    ids: np.ndarray  # (tokens,) int32
    targets: np.ndarray  # (tokens,) bool: learn to say this token
    starts: np.ndarray  # (conversations + 1,) int64
    pad_id: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(conversations,) tokens of each."""
        return np.diff(self.starts)

    def hash(self) -> str:
        """SHA-256 of all of it."""
        digest = hashlib.sha256(self.ids.tobytes())
        digest.update(self.targets.tobytes())
        digest.update(self.starts.tobytes())
        return digest.hexdigest()

    def rows(self, bins: list[list[int]], length: int) -> Batch:
        """Conversations put into rows of `length` tokens; padding is segment 0."""
        shape = (len(bins), length)
        ids = np.full(shape, self.pad_id, dtype=np.int64)
        labels = np.full(shape, IGNORE, dtype=np.int64)
        segments = np.zeros(shape, dtype=np.int64)
        positions = np.zeros(shape, dtype=np.int64)
        for row, members in enumerate(bins):
            at = 0
            for number, member in enumerate(members, start=2):
                begin, end = int(self.starts[member]), int(self.starts[member + 1])
                size = end - begin
                part = slice(at, at + size)
                ids[row, part] = self.ids[begin:end]
                segments[row, part] = number
                positions[row, part] = np.arange(size)
                following = np.where(
                    self.targets[begin + 1 : end], self.ids[begin + 1 : end], IGNORE
                )
                labels[row, at : at + size - 1] = following
                at += size
        return Batch(*(torch.from_numpy(part) for part in (ids, labels, segments, positions)))


class Encoded(Protocol):
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


class ConversationBatches:
    """Training batches (a `BatchSource`): shuffled and packed anew in each epoch."""

    def __init__(
        self,
        data: Encoded,
        *,
        batch_size: int,
        sequence_length: int,
        packing: bool,
        seed: int,
    ) -> None:
        self.batch_size = batch_size
        self.sequence_length = sequence_length
        self._data = data
        self._packing = packing
        self._seed = seed
        self._rows = ShuffledBins(data.lengths, sequence_length, packing=packing, seed=seed)

    @property
    def batches_per_epoch(self) -> float:
        return len(self._rows.epoch(0)) / self.batch_size

    def fingerprint(self) -> dict[str, object]:
        return {
            "batch_size": self.batch_size,
            "sequence_length": self.sequence_length,
            "packing": self._packing,
            "seed": self._seed,
            "conversations": len(self._data),
            "data": self._data.hash(),
        }

    def batch(self, index: int) -> Batch:
        first = index * self.batch_size
        rows = [self._rows[first + number] for number in range(self.batch_size)]
        return self._data.rows(rows, self.sequence_length)


@dataclass(frozen=True)
class HeldOutConversations:
    """Validation batches: every conversation once, in a fixed order.

    With `max_tokens`, sequences evenly spread over them stand for all.
    """

    data: Encoded
    batch_size: int
    sequence_length: int
    max_tokens: int | None = None

    def some(self, max_tokens: int) -> HeldOutConversations:
        """At most so many tokens of them."""
        return replace(self, max_tokens=max_tokens)

    def __iter__(self) -> Iterator[Batch]:
        bins = pack(self.data.lengths, self.sequence_length)
        if self.max_tokens is not None:
            wanted = max(1, self.max_tokens // self.sequence_length)
            chosen = np.linspace(0, len(bins), num=min(len(bins), wanted), endpoint=False)
            bins = [bins[int(index)] for index in chosen]
        for first in range(0, len(bins), self.batch_size):
            yield self.data.rows(bins[first : first + self.batch_size], self.sequence_length)


@dataclass(frozen=True)
class ConversationData:
    """Both splits, and what the user should know about how they were made."""

    train: ConversationBatches
    validation: HeldOutConversations
    notes: list[str]


def load_conversations(
    section: FinetuneSection, tokenizer: Tokenizer, sequence_length: int, *, seed: int
) -> ConversationData:
    """Read, split, encode and truncate the rows of `finetune.data`.

    A row's split depends on its own text, so it stays there when rows are added.

    Raises:
        DataError: rows that cannot be used, none to train on, or none to validate with.
    """
    rows, held_out, report = _split(section)
    encoder = RowEncoder(section, tokenizer, sequence_length)
    train = _encoded(encoder, rows, tokenizer)
    validation = _encoded(encoder, held_out, tokenizer)
    batches = ConversationBatches(
        train,
        batch_size=section.batch_size,
        sequence_length=sequence_length,
        packing=section.packing,
        seed=seed,
    )
    return ConversationData(
        batches,
        HeldOutConversations(validation, max(1, 8192 // sequence_length), sequence_length),
        _notes(report, len(train), len(validation), encoder, train, batches),
    )


def held_out_conversations(
    section: FinetuneSection, tokenizer: Tokenizer, sequence_length: int
) -> HeldOutConversations:
    """Only the rows that finetuning validates with.

    Raises:
        DataError: as `load_conversations`.
    """
    encoder = RowEncoder(section, tokenizer, sequence_length)
    validation = _encoded(encoder, _split(section)[1], tokenizer)
    return HeldOutConversations(validation, max(1, 8192 // sequence_length), sequence_length)


def _split(
    section: FinetuneSection,
) -> tuple[list[Learnable], list[Learnable], RowReport[Learnable]]:
    """As `split_rows`, of what the task of finetuning learns."""

    def read(data: Sequence[Rows]) -> RowReport[Learnable]:
        return read_learnt(data, section.task, section.direction, on_error=section.on_error)

    return divide_rows(section, "finetune", read, text_of)


def _notes(
    report: RowReport[Learnable],
    train: int,
    validation: int,
    encoder: RowEncoder,
    data: Conversations,
    batches: ConversationBatches,
) -> list[str]:
    listed = ", ".join(f"{count:,} {name}" for name, count in report.formats.items())
    room = batches.batches_per_epoch * batches.batch_size * batches.sequence_length
    notes = [
        f"Rows: {train:,} to train on, {validation:,} to validate with ({listed})",
        f"Tokens: {len(data.ids):,} in an epoch, {data.targets.mean():.0%} of them to be learnt, "
        f"{len(data.ids) / room:.0%} of the sequences filled",
    ]
    if encoder.truncated:
        notes.append(
            f"{encoder.truncated:,} conversations are longer than {encoder.length} tokens and "
            "were cut at the front"
        )
    left_out = report.problems.counts + encoder.problems.counts
    if left_out:
        notes.append(f"Left out: {left_out.total():,} rows ({summary(left_out)})")
    return notes


def _encoded(encoder: RowEncoder, rows: list[Learnable], tokenizer: Tokenizer) -> Conversations:
    """All rows, end to end.

    Raises:
        DataError: for rows that cannot be learnt from, or if there is no other.
    """
    parts = [part for row in rows for part in encoder.usable(row)]
    encoder.problems.check()
    if not parts:
        raise DataError("no row is left that can be learnt from", place="finetune.data")
    lengths = [len(part.ids) for part in parts]
    return Conversations(
        ids=np.concatenate([np.array(part.ids, dtype=np.int32) for part in parts]),
        targets=np.concatenate([np.array(part.targets, dtype=np.bool_) for part in parts]),
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        pad_id=tokenizer.pad_id,
    )
