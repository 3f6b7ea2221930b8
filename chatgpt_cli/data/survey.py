"""The first reading of the text: what there is, what is kept, and for which split."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from chatgpt_cli.config.schema import DataSection, SourceSection
from chatgpt_cli.data.documents import Document, read_documents
from chatgpt_cli.data.problems import Problem, ProblemLog
from chatgpt_cli.data.sources import DataFile

# Documents whose hashes are compared at one time; more are compared in several rounds.
_ROUND = 20_000_000
_TRAIN, _VALIDATION, _DROPPED = 0, 1, 2


@dataclass(frozen=True)
class SourceFiles:
    """A source of the configuration and the files that it stands for."""

    section: SourceSection
    files: list[DataFile]
    validation_only: bool


def read_all(
    sources: list[SourceFiles], section: DataSection
) -> Iterator[tuple[SourceFiles, Document | Problem]]:
    """Every document of every source, always in the same order."""
    for source in sources:
        for file in source.files:
            for item in read_documents(file, source.section, section):
                yield source, item


@dataclass
class Survey:
    """What the first reading found. `fate[i]` tells for document i where it goes."""

    fate: np.ndarray
    hashes: np.ndarray
    counts: Counter[str]
    # How many documents each source has.
    documents: list[int]
    # The training text of an epoch: documents as often as their source's weight says.
    characters: float
    # With split: tail, where validation begins: in this document, at this character.
    tail_document: int = -1
    tail_character: int = 0


class _Sample:
    """Documents for the tokenizer, chosen evenly from all, in bounded memory.

    A document is in while its hash lies below a threshold, which is halved whenever
    the sample has grown too large; so it does not depend on how much text there is.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._threshold = 1 << 32
        self._chosen: list[tuple[int, str]] = []
        self._size = 0

    def add(self, chance: int, text: str) -> None:
        if chance >= self._threshold:
            return
        self._chosen.append((chance, text))
        self._size += len(text.encode())
        while self._size > self._limit and len(self._chosen) > 1 and self._threshold > 1:
            self._threshold //= 2
            self._chosen = [one for one in self._chosen if one[0] < self._threshold]
            self._size = sum(len(text.encode()) for _, text in self._chosen)

    def texts(self) -> list[str]:
        return [text for _, text in self._chosen]


def survey(
    sources: list[SourceFiles],
    section: DataSection,
    problems: ProblemLog,
    *,
    sample_bytes: int,
) -> tuple[Survey, list[str]]:
    """Read everything once: hash, count, choose splits, sample for the tokenizer.

    Memory does not grow with the text but for 9 bytes a document: hashes wait on disk.

    Returns:
        The survey and the tokenizer's sample.

    Raises:
        DataError: for unusable data, unless `problems` skips it.
    """
    counts: Counter[str] = Counter()
    sample = _Sample(sample_bytes)
    lengths: list[np.ndarray] = []
    with tempfile.TemporaryFile() as spool:
        held: list[tuple[int, int, int]] = []
        for source, item in read_all(sources, section):
            if isinstance(item, Problem):
                problems.add(item)
                continue
            counts[f"of source {sources.index(source)}"] += 1
            held.append(_judged(source, item, section, sample, counts))
            if len(held) >= 100_000:
                lengths.append(_spill(held, spool))
        lengths.append(_spill(held, spool))
        problems.check()
        spool.seek(0)
        hashes = np.fromfile(spool, dtype=np.uint64)
    flags = np.concatenate(lengths)
    fate = _fates(hashes, flags["short"], flags["only"], section, counts)
    per_source = [counts.pop(f"of source {index}", 0) for index in range(len(sources))]
    weights = np.repeat([source.section.weight for source in sources], per_source)
    trained = np.where(fate == _TRAIN, flags["length"] * weights, 0.0)
    result = Survey(fate, hashes, counts, per_source, float(trained.sum()))
    if section.split == "tail" and not any(source.validation_only for source in sources):
        _cut_tail(result, flags["length"], section)
    return result, sample.texts()


_FLAGS = np.dtype([("length", np.uint32), ("short", np.bool_), ("only", np.bool_)])


def _judged(
    source: SourceFiles,
    document: Document,
    section: DataSection,
    sample: _Sample,
    counts: Counter[str],
) -> tuple[int, int, int]:
    """(hash, length, flags): 1 too short, 2 for validation only."""
    text = document.text
    digest = hashlib.blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=8).digest()
    number = int.from_bytes(digest, "little")
    short = len(text.strip()) < section.min_chars
    counts["documents"] += 1
    counts["cut"] += document.cut
    if not short and not source.validation_only:
        sample.add((number >> 8) & 0xFFFFFFFF, text)
    return number, len(text), short | source.validation_only << 1


def _spill(held: list[tuple[int, int, int]], spool: Any) -> np.ndarray:
    np.array([one[0] for one in held], dtype=np.uint64).tofile(spool)
    flags = np.zeros(len(held), dtype=_FLAGS)
    flags["length"] = [one[1] for one in held]
    flags["short"] = [bool(one[2] & 1) for one in held]
    flags["only"] = [bool(one[2] & 2) for one in held]
    held.clear()
    return flags


def _fates(
    hashes: np.ndarray,
    short: np.ndarray,
    only: np.ndarray,
    section: DataSection,
    counts: Counter[str],
) -> np.ndarray:
    """Where each document goes; of equal ones the first stays."""
    fate = np.zeros(len(hashes), dtype=np.uint8)
    if not only.any() and section.split == "hash":
        share = (hashes >> np.uint64(40)).astype(np.float64) / 2**24
        fate[share < section.validation_fraction] = _VALIDATION
        kept = np.flatnonzero(~short)
        wanted = section.validation_fraction > 0 and len(kept) > 1
        if wanted and not (fate[kept] == _VALIDATION).any():
            fate[kept[np.argmin(hashes[kept])]] = _VALIDATION
    fate[only] = _VALIDATION
    if section.deduplicate:
        repeated = _repeated(hashes, np.flatnonzero(~short))
        counts["duplicates"] = len(repeated)
        fate[repeated] = _DROPPED
    counts["too short"] = int(short.sum())
    fate[short] = _DROPPED
    return fate


def _repeated(hashes: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The numbers of documents that have occurred before."""
    rounds = max(1, -(-len(candidates) // _ROUND))
    found = []
    for part in range(rounds):
        chosen = candidates[hashes[candidates] % np.uint64(rounds) == part]
        _, first = np.unique(hashes[chosen], return_index=True)
        found.append(np.delete(chosen, first))
    return np.concatenate(found)


def _cut_tail(result: Survey, lengths: np.ndarray, section: DataSection) -> None:
    """Give the last `validation_fraction` of all characters to validation."""
    counted = np.where(result.fate == _DROPPED, 0, lengths.astype(np.int64))
    ends = np.cumsum(counted)
    total = int(ends[-1]) if len(ends) else 0
    border = int(total * (1 - section.validation_fraction))
    if total == 0 or border >= total:
        return
    document = int(np.searchsorted(ends, border, side="right"))
    result.tail_document = document
    result.tail_character = border - int(ends[document] - counted[document])
    result.fate[document:][result.fate[document:] == _TRAIN] = _VALIDATION


def assigned(
    sources: list[SourceFiles], section: DataSection, result: Survey
) -> Iterator[tuple[str, str]]:
    """The second reading: (split, text) of every document that is kept.

    A source of weight 2.5 comes twice, and half of its documents a third time.
    """
    start = 0
    for index, source in enumerate(sources):
        for number, text in _kept(source, section, result, start):
            if result.fate[number] == _VALIDATION:
                head = result.tail_character if number == result.tail_document else 0
                if head:
                    yield "train", text[:head]
                yield "validation", text[head:]
            elif _copies(source, result, number) >= 1:
                yield "train", text
        for round_ in range(2, int(np.ceil(source.section.weight)) + 1):
            for number, text in _kept(source, section, result, start):
                wanted = result.fate[number] == _TRAIN
                if wanted and _copies(source, result, number) >= round_:
                    yield "train", text
        start += result.documents[index]


def _copies(source: SourceFiles, result: Survey, number: int) -> int:
    """How often a document is shown in an epoch."""
    whole, rest = divmod(source.section.weight, 1)
    chance = int(result.hashes[number] & np.uint64(0xFFFFFF)) / 2**24
    return int(whole) + (chance < rest)


def _kept(
    source: SourceFiles, section: DataSection, result: Survey, start: int
) -> Iterator[tuple[int, str]]:
    number = start - 1
    for _, item in read_all([source], section):
        if isinstance(item, Problem):
            continue
        number += 1
        if result.fate[number] != _DROPPED:
            yield number, item.text
