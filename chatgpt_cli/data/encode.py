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
    pieces = [
        np.array(tokenizer.document(tokenizer.encode(document.text)), dtype=np.uint32)
        for document in batch
    ]
    ids = np.concatenate(pieces)
    lengths = np.array([len(piece) for piece in pieces])
    begins = np.cumsum(lengths) - lengths
    is_fallback = np.zeros(tokenizer.vocab_size, dtype=np.bool_)
    is_fallback[tokenizer.byte_ids] = True
    documents = np.zeros(len(batch), dtype=DOCUMENT)
    documents["tokens"] = lengths
    documents["bytes"] = [len(document.text.encode()) for document in batch]
    if tokenizer.unk_id is not None:
        unknown = ids == tokenizer.unk_id
        documents["unknown"] = np.add.reduceat(unknown, begins, dtype=np.int64)
    documents["fallback"] = np.add.reduceat(is_fallback[ids], begins, dtype=np.int64)
    documents["copies"] = [document.copies for document in batch]
    documents["split"] = [SPLITS.index(document.split) for document in batch]
    documents["language"] = [_LANGUAGES.index(_language(document.text)) for document in batch]
    return Encoded(ids, documents)


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
    codes = np.frombuffer(text[:2000].encode("utf-32-le", "surrogatepass"), dtype="<u4")
    size = max(len(codes), 1)
    if 6 * np.count_nonzero((codes >= 0x4E00) & (codes <= 0x9FFF)) >= size:
        return "zh"
    lower = codes | 0x20  # of ASCII letters; it makes letters of nothing else
    latin = np.count_nonzero((lower >= ord("a")) & (lower <= ord("z")))
    return "en" if 2 * latin >= size else "other"


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
