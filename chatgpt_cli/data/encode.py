"""Documents as token ids, by worker processes where there are many; and what they amount to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from chatgpt_cli.data.shards import SPLITS
from chatgpt_cli.data.survey import Kept
from chatgpt_cli.data.workers import processes, worker_pool
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

# Text that a worker encodes at one time, in characters.
_BATCH_CHARS = 500_000
# Below this, starting worker processes takes longer than encoding.
_PARALLEL_BYTES = 8_000_000
_LANGUAGES = ("en", "zh", "other")

# What is known of an encoded document; language and split by their numbers, `copies` is how
# often it is shown in an epoch.
DOCUMENT = np.dtype(
    [
        ("tokens", "<u4"),
        ("bytes", "<u4"),
        ("unknown", "<u4"),
        ("fallback", "<u4"),
        ("copies", "<u2"),
        ("split", "u1"),
        ("language", "u1"),
    ]
)


@dataclass(frozen=True)
class Encoded:
    """Documents as tokens, one after the other.

    Attributes:
        ids: (tokens,) of all documents.
        documents: (documents,) of `DOCUMENT`.
    """

    ids: np.ndarray
    documents: np.ndarray


def encode_batch(batch: list[Kept], tokenizer: Tokenizer) -> Encoded:
    """Documents as tokens, [BOS] and [EOS] around each."""
    fallback = np.array(tokenizer.byte_ids, dtype=np.int64)
    pieces = []
    documents = np.zeros(len(batch), dtype=DOCUMENT)
    for index, document in enumerate(batch):
        ids = np.array(tokenizer.document(tokenizer.encode(document.text)), dtype=np.uint32)
        pieces.append(ids)
        documents[index] = (
            len(ids),
            len(document.text.encode()),
            (ids == tokenizer.unk_id).sum(),
            np.isin(ids, fallback).sum(),
            document.copies,
            SPLITS.index(document.split),
            _LANGUAGES.index(_language(document.text)),
        )
    return Encoded(np.concatenate(pieces), documents)


def encode_all(
    texts: Iterator[Kept], tokenizer: Tokenizer, workers: int | str
) -> Iterator[Encoded]:
    """Batches in their order, encoded here or, for large texts, by worker processes."""
    number = processes(workers)
    waiting = batches(texts)
    first: list[list[Kept]] = []
    size = 0
    for batch in waiting:
        first.append(batch)
        size += sum(len(document.text) for document in batch)
        if size >= _PARALLEL_BYTES:
            break
    if number == 1 or size < _PARALLEL_BYTES:
        for batch in chain(first, waiting):
            yield encode_batch(batch, tokenizer)
        return
    yield from _encode_by(number, chain(first, waiting), tokenizer)


def batches(texts: Iterable[Kept]) -> Iterator[list[Kept]]:
    """Documents in lists that are worth sending to a worker."""
    batch: list[Kept] = []
    size = 0
    for one in texts:
        batch.append(one)
        size += len(one.text)
        if size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


_worker_tokenizer: Tokenizer | None = None


def _start_worker(tokenizer: Tokenizer) -> None:
    global _worker_tokenizer
    _worker_tokenizer = tokenizer


def _encode_there(batch: list[Kept]) -> Encoded:
    """What a worker does with a batch."""
    assert _worker_tokenizer is not None
    return encode_batch(batch, _worker_tokenizer)


def _encode_by(number: int, texts: Iterable[list[Kept]], tokenizer: Tokenizer) -> Iterator[Encoded]:
    with worker_pool(number, _start_worker, (tokenizer,)) as pool:
        waiting: list[Future[Encoded]] = []
        for batch in texts:
            waiting.append(pool.submit(_encode_there, batch))
            if len(waiting) > 2 * number:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _language(text: str) -> str:
    """By the script of the beginning: a sixth of Han characters makes it Chinese."""
    head = text[:2000]
    han = sum("\u4e00" <= character <= "\u9fff" for character in head)
    if han * 6 >= max(len(head), 1):
        return "zh"
    latin = sum(character.isascii() and character.isalpha() for character in head)
    return "en" if latin * 2 >= max(len(head), 1) else "other"


@dataclass
class Tally:
    """Counts for the report, by language and by length."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)

    def add(self, documents: np.ndarray) -> None:
        """Count documents, given as an array of `DOCUMENT`."""
        for number, language in enumerate(_LANGUAGES):
            own = documents[documents["language"] == number]
            self.counts[language, "documents"] += len(own)
            for name in ("bytes", "tokens", "unknown", "fallback"):
                self.counts[language, name] += int(own[name].sum(dtype=np.int64))
        # The exponent is the number of binary digits.
        _, digits = np.frexp(np.maximum(documents["tokens"].astype(np.int64) - 1, 1))
        steps, found = np.unique(digits, return_counts=True)
        for step, count in zip(steps.tolist(), found.tolist(), strict=True):
            self.lengths[1 << step] += count

    def by_language(self) -> dict[str, dict[str, float]]:
        """Documents, bytes and tokens of each language that occurs."""
        table = {}
        for language in _LANGUAGES:
            counts = {name: self.counts[language, name] for name in DOCUMENT.names or ()}
            tokens = counts["tokens"]
            if tokens:
                table[language] = {
                    "documents": self.counts[language, "documents"],
                    "bytes": counts["bytes"],
                    "tokens": tokens,
                    "bytes_per_token": round(counts["bytes"] / tokens, 3),
                    "unknown_share": round(counts["unknown"] / tokens, 6),
                    "byte_fallback_share": round(counts["fallback"] / tokens, 6),
                }
        return table

    def by_length(self) -> dict[str, int]:
        """How many documents have at most so many tokens (and more than the step before)."""
        return {str(step): count for step, count in sorted(self.lengths.items())}
