"""Conversations as batches for supervised finetuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from chatgpt_cli.config.schema import FinetuneSection, Rows
from chatgpt_cli.data.packed import Conversations, EncodedRows, HeldOutRows, PackedBatches
from chatgpt_cli.data.problems import left_out
from chatgpt_cli.data.row_encoder import Learnable, RowEncoder
from chatgpt_cli.data.rows import RowReport, read_groups
from chatgpt_cli.data.shared_prompts import share_prompts
from chatgpt_cli.data.split import divide_rows, text_of
from chatgpt_cli.data.unknown_characters import UnknownCharacters
from chatgpt_cli.errors import DataError
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class ConversationData:
    """Both splits, and what the user should know about how they were made."""

    train: PackedBatches
    validation: HeldOutRows
    notes: list[str]
    # (tokens,) int64, those that the training rows hold, each once.
    tokens: np.ndarray


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
    unknown = UnknownCharacters(tokenizer)
    unknown.count(train.ids)
    # A bidirectional model would see one branch from the other.
    branching = section.packing and section.task != "masked_language_modeling"
    packed = share_prompts(train, sequence_length) if branching else train
    batches = PackedBatches(
        packed,
        batch_size=section.batch_size,
        sequence_length=sequence_length,
        packing=section.packing,
        seed=seed,
    )
    return ConversationData(
        batches,
        HeldOutRows(validation, sequence_length),
        _notes(report, len(validation), encoder, train, packed, batches)
        + [note for note in [unknown.note()] if note],
        # As np.unique, which sorts.
        np.flatnonzero(np.bincount(train.ids)),
    )


def held_out_conversations(
    section: FinetuneSection, tokenizer: Tokenizer, sequence_length: int
) -> HeldOutRows:
    """Only the rows that finetuning validates with.

    Raises:
        DataError: as `load_conversations`.
    """
    encoder = RowEncoder(section, tokenizer, sequence_length)
    validation = _encoded(encoder, _split(section)[1], tokenizer)
    return HeldOutRows(validation, sequence_length)


def _split(
    section: FinetuneSection,
) -> tuple[list[Learnable], list[Learnable], RowReport[Learnable]]:
    """As `divide_rows`, of what the task of finetuning learns; a pair's directions together."""

    def read(data: Sequence[Rows]) -> RowReport[list[Learnable]]:
        return read_groups(data, section.task, section.direction, on_error=section.on_error)

    def text_of_all(group: list[Learnable]) -> str:
        return "\0".join(sorted(map(text_of, group)))

    rows, held_out, report = divide_rows(section, "finetune", read, text_of_all)
    whole = RowReport([*chain(*report.rows)], report.formats, report.problems)
    return [*chain(*rows)], [*chain(*held_out)], whole


def _notes(
    report: RowReport[Learnable],
    validation: int,
    encoder: RowEncoder,
    data: Conversations,
    packed: EncodedRows,
    batches: PackedBatches,
) -> list[str]:
    listed = ", ".join(f"{count:,} {name}" for name, count in report.formats.items())
    room = batches.batches_per_epoch * batches.batch_size * batches.sequence_length
    read = int(packed.lengths.sum())
    notes = [
        f"Rows: {len(data):,} to train on, {validation:,} to validate with ({listed})",
        f"Tokens: {len(data.ids):,} in an epoch, {data.targets.mean():.0%} of them to be learnt, "
        f"{read / room:.0%} of the sequences filled",
    ]
    if read < len(data.ids):
        notes.append(
            f"Rows that begin alike share their beginning: {read:,} tokens are read instead of "
            f"{len(data.ids):,}"
        )
    if encoder.truncated:
        notes.append(
            f"{encoder.truncated:,} conversations are longer than {encoder.length} tokens and "
            "were cut at the front"
        )
    return notes + left_out(report.problems.counts + encoder.problems.counts)


def _encoded(encoder: RowEncoder, rows: list[Learnable], tokenizer: Tokenizer) -> Conversations:
    """All rows, end to end.

    Raises:
        DataError: for rows that cannot be learnt from, or if there is no other.
    """
    rendered = (part for row in rows for part in encoder.usable(row))
    found = Conversations.of(rendered, tokenizer.pad_id)
    encoder.problems.check()
    if not len(found):
        raise DataError("no row is left that can be learnt from", place="finetune.data")
    return found
