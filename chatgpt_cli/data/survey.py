"""The first reading of the text: what there is, what is kept, and for which split."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chatgpt_cli.config.schema import DataSection, SourceSection
from chatgpt_cli.data.cleaning.near_duplicates import bands_for, repeated_by, similar_pairs
from chatgpt_cli.data.cleaning.rejection import Rejections, Review, review
from chatgpt_cli.data.cleaning.signature_files import SignatureFiles, SignatureWriter
from chatgpt_cli.data.documents import Document, read_documents
from chatgpt_cli.data.problems import Problem, ProblemLog
from chatgpt_cli.data.shards import Split
from chatgpt_cli.data.sources import DataFile

# Documents whose hashes are compared at one time; more are compared in several rounds.
_ROUND = 20_000_000
# Text that is judged at one time, in characters: so much that the processor's cache holds it.
_BATCH_CHARS = 200_000
_TRAIN, _VALIDATION, _DROPPED = 0, 1, 2
# Documents of which those kept aside are looked up, and files or rows that are then listed.
_FEW, _LISTED = 1000, 10

# What the first reading notes of a document.
_RECORD = np.dtype([("hash", "<u8"), ("length", "<u4"), ("flags", "u1")])
_SHORT, _ONLY_VALIDATION, _REJECTED, _EMPTY = 1, 2, 4, 8


@dataclass(frozen=True)
class SourceFiles:
    """A source of the configuration and the files that it stands for."""

    section: SourceSection
    files: list[DataFile]
    validation_only: bool


def read_all(
    sources: Sequence[SourceFiles], section: DataSection
) -> Iterator[tuple[int, Document | Problem]]:
    """Every document of every source with the source's number, always in the same order."""
    for number, source in enumerate(sources):
        for file in source.files:
            for item in read_documents(file, source.section, section):
                yield number, item


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
    rejected: Rejections = field(default_factory=Rejections)
    # With split: tail, where validation begins: in this document, at this character.
    tail_document: int = -1
    tail_character: int = 0


class Sample:
    """Documents for the tokenizer, chosen evenly from all, in bounded memory.

    A document is in while its hash lies below a threshold, which is halved whenever
    the sample has grown too large; so it does not depend on how much text there is, nor
    on whether it was drawn at once or from samples of parts.
    """

    def __init__(self, limit: int, threshold: int = 1 << 32) -> None:
        self._limit = limit
        self.threshold = threshold
        self.chosen: list[tuple[int, str]] = []
        self._size = 0

    def add(self, chance: int, text: str) -> None:
        """Offer a document; `chance` is a number below 2**32 that its text decides."""
        if chance >= self.threshold:
            return
        self.chosen.append((chance, text))
        self._size += len(text.encode())
        while self._size > self._limit and len(self.chosen) > 1 and self.threshold > 1:
            self.limit(self.threshold // 2)

    def limit(self, threshold: int) -> None:
        """Keep only what lies below this threshold too."""
        if threshold < self.threshold:
            self.threshold = threshold
            self.chosen = [one for one in self.chosen if one[0] < threshold]
            self._size = sum(len(text.encode()) for _, text in self.chosen)

    def texts(self) -> list[str]:
        """The documents, in their order."""
        return [text for _, text in self.chosen]


def survey(
    sources: list[SourceFiles],
    section: DataSection,
    problems: ProblemLog,
    *,
    sample_bytes: int,
) -> tuple[Survey, list[str]]:
    """Read everything once: hash, count, judge, choose splits, sample for the tokenizer.

    Memory grows with the text by some 25 bytes a document; all else waits on disk.

    Returns:
        The survey and the tokenizer's sample.

    Raises:
        DataError: for unusable data, unless `problems` skips it.
    """
    sample = Sample(sample_bytes)
    with tempfile.TemporaryDirectory(prefix="chatgpt-") as name:
        folder = Path(name)
        look_through(read_all(sources, section), sources, section, problems, sample, folder)
        notes = Notes([folder], section)
        dropped = notes.dropped()
        pairs = [notes.similar(band, dropped) for band in range(notes.bands)]
        return notes.survey(sources, dropped, pairs), sample.texts()


# ----------------------------------------------------------------------- what is noted


def look_through(
    items: Iterable[tuple[int, Document | Problem]],
    sources: Sequence[SourceFiles],
    section: DataSection,
    problems: ProblemLog,
    sample: Sample,
    folder: Path,
) -> None:
    """Note in a folder what `Notes` needs to know of these documents, and draw a sample.

    Raises:
        DataError: for unusable data, unless `problems` skips it.
    """
    counts: Counter[str] = Counter()
    rejected = Rejections()
    near = section.near_duplicates
    with ExitStack() as stack:
        records = stack.enter_context((folder / "records.bin").open("wb"))
        writer = None
        if near is not None:
            bands = bands_for(near.threshold).count
            writer = stack.enter_context(SignatureWriter(folder, bands))
        for batch in _batches(items, problems):
            judged = review([document for _, document in batch], section)
            noted = np.zeros(len(batch), dtype=_RECORD)
            for index, (number, document) in enumerate(batch):
                only = sources[number].validation_only
                hash_, length, flags = _record(document, judged, index, section, only=only)
                noted[index] = hash_, length, flags
                counts[f"of source {number}"] += 1
                counts["cut"] += document.cut
                if not flags & (_SHORT | _ONLY_VALIDATION | _REJECTED):
                    sample.add((hash_ >> 8) & 0xFFFFFFFF, document.text)
                if flags & _REJECTED and not flags & _SHORT:
                    rejected.add(str(judged.broken[index]), document.place, document.text)
            noted.tofile(records)
            if writer is not None and judged.signatures is not None:
                writer.add(judged.signatures)
    problems.check()
    notes = {"counts": counts, "rejected": rejected.rules}
    (folder / "notes.json").write_text(json.dumps(notes), encoding="utf-8")


def _batches(
    items: Iterable[tuple[int, Document | Problem]], problems: ProblemLog
) -> Iterator[list[tuple[int, Document]]]:
    batch: list[tuple[int, Document]] = []
    size = 0
    for number, item in items:
        if isinstance(item, Problem):
            problems.add(item)
            continue
        batch.append((number, item))
        size += len(item.text)
        if size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _record(
    document: Document, judged: Review, index: int, section: DataSection, *, only: bool
) -> tuple[int, int, int]:
    """(hash, length, flags) of a document."""
    text = document.text
    digest = hashlib.blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=8).digest()
    flags = _SHORT if len(text.strip()) < section.min_chars else 0
    flags |= _ONLY_VALIDATION if only else 0
    flags |= _REJECTED if judged.broken[index] else 0
    flags |= _EMPTY if judged.signatures is not None and judged.signatures.empty[index] else 0
    return int.from_bytes(digest, "little"), len(text), flags


class Notes:
    """What `look_through` left in folders, read as the notes on one sequence of documents."""

    def __init__(self, folders: Sequence[Path], section: DataSection) -> None:
        self._section = section
        parts = [np.fromfile(folder / "records.bin", dtype=_RECORD) for folder in folders]
        self._records = np.concatenate(parts)
        # How many documents there are in each folder.
        self.sizes = [len(part) for part in parts]
        self.counts: Counter[str] = Counter()
        self._rejected = Rejections()
        for folder in folders:
            noted = json.loads((folder / "notes.json").read_text(encoding="utf-8"))
            self.counts.update(noted["counts"])
            self._rejected.merge(noted["rejected"])
        near = section.near_duplicates
        self.bands = 0 if near is None else bands_for(near.threshold).count
        self._signatures = None
        if near is not None:
            self._signatures = SignatureFiles(folders, self.sizes, self.bands)

    @staticmethod
    def hashes_in(folder: Path) -> np.ndarray:
        """(documents,) uint64: the hashes of the documents that one folder is about."""
        return np.fromfile(folder / "records.bin", dtype=_RECORD)["hash"]

    def dropped(self) -> np.ndarray:
        """(documents,) bool: too short, rejected, or the same as an earlier one."""
        flags = self._records["flags"]
        short = (flags & _SHORT) > 0
        dropped = (flags & (_SHORT | _REJECTED)) > 0
        self.counts["documents"] = len(flags)
        if self._section.deduplicate:
            repeated = _repeated(self._records["hash"], np.flatnonzero(~dropped))
            self.counts["duplicates"] = len(repeated)
            dropped[repeated] = True
        self.counts["too short"] = int(short.sum())
        return dropped

    def similar(self, band: int, dropped: np.ndarray) -> np.ndarray:
        """(pairs, 2) int64: kept documents that resemble each other, as one band finds them."""
        near, files = self._section.near_duplicates, self._signatures
        assert near is not None and files is not None
        usable = ~dropped & ((self._records["flags"] & _EMPTY) == 0)
        return similar_pairs(files.keys(band), usable, files.rows, near.threshold)

    def survey(
        self, sources: list[SourceFiles], dropped: np.ndarray, pairs: Iterable[np.ndarray]
    ) -> Survey:
        """Decide about every document."""
        section, records, counts = self._section, self._records, self.counts
        if section.near_duplicates is not None:
            gone = repeated_by(pairs)
            dropped[list(gone)] = True
            counts["near duplicates"] = len(gone)
        only = (records["flags"] & _ONLY_VALIDATION) > 0
        fate = _fates(records["hash"], dropped, only, section)
        per_source = [counts.pop(f"of source {index}", 0) for index in range(len(sources))]
        weights = np.repeat([source.section.weight for source in sources], per_source)
        trained = np.where(fate == _TRAIN, records["length"] * weights, 0.0)
        result = Survey(
            fate, records["hash"], counts, per_source, float(trained.sum()), self._rejected
        )
        if section.split == "tail" and not any(source.validation_only for source in sources):
            _cut_tail(result, records["length"], section)
        return result


# ------------------------------------------------------------------- who goes where


def _fates(
    hashes: np.ndarray, dropped: np.ndarray, only: np.ndarray, section: DataSection
) -> np.ndarray:
    """Where each document goes, by its content alone."""
    fate = np.zeros(len(hashes), dtype=np.uint8)
    if not only.any() and section.split == "hash":
        share = (hashes >> np.uint64(40)).astype(np.float64) / 2**24
        fate[share < section.validation_fraction] = _VALIDATION
        kept = np.flatnonzero(~dropped)
        wanted = section.validation_fraction > 0 and len(kept) > 1
        if wanted and not (fate[kept] == _VALIDATION).any():
            fate[kept[np.argmin(hashes[kept])]] = _VALIDATION
    fate[only] = _VALIDATION
    fate[dropped] = _DROPPED
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


# ----------------------------------------------------------------- the second reading


class Kept(NamedTuple):
    """A document, or a part of one, that goes to a split."""

    split: Split
    text: str
    # How often it is shown in an epoch of training.
    copies: int


def kept(source: SourceFiles, section: DataSection, result: Survey, start: int) -> Iterator[Kept]:
    """The documents of these files that are kept, of which the first has number `start`."""
    number = start - 1
    for _, item in read_all([source], section):
        if isinstance(item, Problem):
            continue
        number += 1
        fate = result.fate[number]
        if fate == _TRAIN:
            yield Kept("train", item.text, _copies(source, result, number))
        elif fate == _VALIDATION:
            head = result.tail_character if number == result.tail_document else 0
            if head:
                yield Kept("train", item.text[:head], 1)
            yield Kept("validation", item.text[head:], 1)


def assigned(sources: list[SourceFiles], section: DataSection, result: Survey) -> Iterator[Kept]:
    """The second reading: every document that is kept, as often as it is shown.

    A source of weight 2.5 comes twice, and half of its documents a third time.
    """
    start = 0
    for index, source in enumerate(sources):
        for round_ in range(1, rounds(source) + 1):
            for document in kept(source, section, result, start):
                if document.copies >= round_:
                    yield document
        start += result.documents[index]


def kept_aside(sources: Sequence[SourceFiles], section: DataSection, result: Survey) -> list[str]:
    """Which files or rows validation has, if there are few documents; `part of` one it shares.

    Empty where the documents are many, or the user named others to validate with.
    """
    if len(result.fate) > _FEW or any(source.validation_only for source in sources):
        return []
    items = (item for _, item in read_all(sources, section))
    documents = [item for item in items if isinstance(item, Document)]
    places = dict.fromkeys(
        one.place for one, fate in zip(documents, result.fate, strict=True) if fate == _VALIDATION
    )
    shared = {one.place for one, fate in zip(documents, result.fate, strict=True) if fate == _TRAIN}
    if result.tail_character:
        shared.add(documents[result.tail_document].place)
    listed = [f"part of {place}" if place in shared else place for place in places]
    return listed if len(listed) <= _LISTED else []


def rounds(source: SourceFiles) -> int:
    """How often the documents of a source are gone through in an epoch."""
    return max(1, int(np.ceil(source.section.weight)))


def _copies(source: SourceFiles, result: Survey, number: int) -> int:
    """How often a document is shown in an epoch."""
    whole, rest = divmod(source.section.weight, 1)
    chance = int(result.hashes[number] & np.uint64(0xFFFFFF)) / 2**24
    return int(whole) + (chance < rest)
