"""Conversations as batches for supervised finetuning."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch

from chatgpt_cli.config.schema import FinetuneSection
from chatgpt_cli.data.batch import IGNORE, Batch
from chatgpt_cli.data.formats.conversations import ChatRow
from chatgpt_cli.data.packing import ShuffledBins, pack
from chatgpt_cli.data.rows import read_rows
from chatgpt_cli.errors import DataError
from chatgpt_cli.tokenizer.chat import Message, Rendered, render
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


class ConversationBatches:
    """Training batches (a `BatchSource`): shuffled and packed anew in each epoch."""

    def __init__(
        self,
        data: Conversations,
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

    data: Conversations
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
    rows, held_out, formats = split_rows(section, "finetune")
    encoder = _Encoder(section, tokenizer, sequence_length)
    train, validation = encoder.encode(rows), encoder.encode(held_out)
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
        _notes(formats, len(train), len(validation), encoder, train, batches),
    )


def held_out_conversations(
    section: FinetuneSection, tokenizer: Tokenizer, sequence_length: int
) -> HeldOutConversations:
    """Only the rows that finetuning validates with.

    Raises:
        DataError: as `load_conversations`.
    """
    encoder = _Encoder(section, tokenizer, sequence_length)
    validation = encoder.encode(split_rows(section, "finetune")[1])
    return HeldOutConversations(validation, max(1, 8192 // sequence_length), sequence_length)


class RowsSection(Protocol):
    """The keys that say which rows a stage learns from, and which are kept aside."""

    @property
    def data(self) -> list[str]: ...
    @property
    def validation_data(self) -> list[str]: ...
    @property
    def validation_fraction(self) -> float: ...
    @property
    def on_error(self) -> Literal["stop", "skip"]: ...


def split_rows(
    section: RowsSection, stage: str
) -> tuple[list[ChatRow], list[ChatRow], dict[str, int]]:
    """Rows to train on, rows to validate with, and how many had which format.

    Raises:
        DataError: rows that cannot be used, none to train on, or none to validate with.
    """
    setting = f"{stage}.on_error"
    report = read_rows(section.data, on_error=section.on_error, setting=setting)
    held_out: list[ChatRow] = []
    rows = report.rows
    if section.validation_data:
        held_out = read_rows(
            section.validation_data, on_error=section.on_error, setting=setting
        ).rows
    else:
        held_out = held_out_rows(rows, section.validation_fraction)
        chosen = {row.messages for row in held_out}
        rows = [row for row in rows if row.messages not in chosen]
    if not rows or not held_out:
        raise DataError(
            f"{len(report.rows)} rows give {len(rows)} for training and {len(held_out)} for "
            "validation; both are needed",
            place=f"{stage}.data",
            remedy=f"Add rows, raise {stage}.validation_fraction, or name validation_data.",
        )
    return rows, held_out, report.formats


def _notes(
    formats: dict[str, int],
    train: int,
    validation: int,
    encoder: _Encoder,
    data: Conversations,
    batches: ConversationBatches,
) -> list[str]:
    listed = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in formats.items())
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
    return notes


def held_out_rows(rows: list[ChatRow], fraction: float) -> list[ChatRow]:
    """Rows chosen by a hash of their text; at least one where there are two."""
    if not fraction or len(rows) < 2:
        return []
    chances = [_chance(row) for row in rows]
    chosen = [row for row, chance in zip(rows, chances, strict=True) if chance < fraction]
    return chosen or [rows[chances.index(min(chances))]]


def _chance(row: ChatRow) -> float:
    text = "\0".join(f"{message.role}\0{message.content}" for message in row.messages)
    digest = hashlib.blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


class _Encoder:
    """Renders conversations and cuts those that are too long."""

    def __init__(self, section: FinetuneSection, tokenizer: Tokenizer, length: int) -> None:
        self._system = section.system_prompt
        self._tokenizer = tokenizer
        self.length = length
        self.truncated = 0

    def encode(self, rows: list[ChatRow]) -> Conversations:
        """All rows, end to end."""
        parts = [self._encoded(row) for row in rows]
        lengths = [len(part.ids) for part in parts]
        return Conversations(
            ids=np.concatenate([np.array(part.ids, dtype=np.int32) for part in parts]),
            targets=np.concatenate([np.array(part.targets, dtype=np.bool_) for part in parts]),
            starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            pad_id=self._tokenizer.pad_id,
        )

    def _encoded(self, row: ChatRow) -> Rendered:
        messages = list(row.messages)
        if self._system and messages[0].role != "system":
            messages.insert(0, Message("system", self._system))
        rendered = render(messages, self._tokenizer)
        if not any(rendered.targets):
            raise DataError(
                "no message of the assistant is to be learnt (all have weight 0)", place=row.place
            )
        if len(rendered.ids) > self.length:
            self.truncated += 1
            rendered = self._cut(messages, row)
        return rendered

    def _cut(self, messages: list[Message], row: ChatRow) -> Rendered:
        """Leave out the oldest turns, then the beginning of the last question.

        The answer and its end-of-turn token stay whole: a model that learns from
        answers without an end never stops.
        """
        head = [m for m in messages[:1] if m.role == "system"]
        turns = messages[len(head) :]
        while len(turns) > 2:
            turns = turns[1:]
            if turns[0].role != "user":
                continue
            rendered = render([*head, *turns], self._tokenizer)
            if len(rendered.ids) <= self.length and any(rendered.targets):
                return rendered
        return self._cut_question([*head, *turns[-2:]], row)

    def _cut_question(self, messages: list[Message], row: ChatRow) -> Rendered:
        """As much of the end of the question, the message before the last, as fits.

        Raises:
            DataError: if not even the answer fits.
        """
        *before, question, answer = messages

        def with_last(characters: int) -> Rendered:
            kept = question.content[len(question.content) - characters :]
            cut = replace(question, content=kept)
            return render([*before, cut, answer], self._tokenizer)

        shortest = with_last(0)
        if len(shortest.ids) > self.length:
            raise DataError(
                f"the answer alone has {sum(shortest.targets):,} tokens, and a sequence only "
                f"{self.length:,}",
                place=row.place,
                remedy="Shorten the answer, raise finetune.sequence_length (and "
                "model.context_length before pretraining), or leave the row out.",
            )
        fits, too_long = 0, len(question.content) + 1
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if len(with_last(middle).ids) <= self.length:
                fits = middle
            else:
                too_long = middle
        return with_last(fits)
