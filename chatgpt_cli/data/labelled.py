"""Labelled texts as batches for training a classifier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chatgpt_cli.config.schema import FinetuneSection, Rows
from chatgpt_cli.data.batch import IGNORE, Batch
from chatgpt_cli.data.formats.classification import LabelledRow
from chatgpt_cli.data.packed import HeldOutRows, PackedBatches, laid_out, places, sha256_of
from chatgpt_cli.data.problems import Problem, ProblemLog, left_out
from chatgpt_cli.data.rows import RowReport, read_labelled
from chatgpt_cli.data.split import divide_rows
from chatgpt_cli.errors import DataError
from chatgpt_cli.tokenizer.special import CLS, SEP
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


def encode_texts(
    texts: tuple[str, ...], tokenizer: Tokenizer, *, causal: bool, length: int
) -> tuple[list[int], bool]:
    """A text, or two that belong together, as a classifier reads it; whether it was cut.

    A masked model reads `[CLS] text [SEP]` or `[CLS] text [SEP] text [SEP]` and is
    scored at [CLS]; a causal one `[BOS] text [EOS]`, two texts on two lines, and is scored
    at the end. Of what is too long the end is left out, of two texts that of the longer.
    """
    if not causal:
        parts = [tokenizer.encode(text) for text in texts]
        cut = _shorten(parts, length - 1 - len(parts))
        return [CLS, *(token for part in parts for token in [*part, SEP])], cut
    # Other programs score the last token that is no padding.
    end = [] if tokenizer.eos_id == tokenizer.pad_id else [tokenizer.eos_id]
    start = list(tokenizer.start_ids)
    whole = [tokenizer.encode("\n".join(texts))]
    cut = _shorten(whole, length - len(start) - len(end))
    return [*start, *whole[0], *end], cut


def _shorten(parts: list[list[int]], room: int) -> bool:
    """Cut the longest part until all fit; whether anything was cut."""
    before = sum(map(len, parts))
    while (over := sum(map(len, parts)) - room) > 0:
        sizes = sorted((len(part) for part in parts), reverse=True)
        step = over if len(parts) == 1 else max(1, min(over, sizes[0] - sizes[1]))
        longest = max(parts, key=len)
        del longest[len(longest) - step :]
    return sum(map(len, parts)) < before


@dataclass(frozen=True)
class LabelledTexts:
    """Encoded texts, end to end: ids, where each begins, and the number of its label."""

    ids: np.ndarray  # (tokens,) int32
    starts: np.ndarray  # (texts + 1,) int64
    labels: np.ndarray  # (texts,) int64
    pad_id: int
    # Scored at its last token, otherwise at its first.
    causal: bool

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """(texts,) tokens of each."""
        return np.diff(self.starts)

    def hash(self) -> str:
        """SHA-256 of all of it."""
        return sha256_of(self.ids, self.starts, self.labels)

    def rows(self, bins: list[list[int]], length: int) -> Batch:
        """Texts put into rows of `length` tokens; a label stands where its text is scored."""
        where = list(places(bins, self.starts))
        labels = np.full((len(bins), length), IGNORE, dtype=np.int64)
        for one in where:
            column = one.columns.stop - 1 if self.causal else one.columns.start
            labels[one.row, column] = self.labels[one.item]
        return laid_out(self.ids, where, labels, self.pad_id)


@dataclass(frozen=True)
class LabelledData:
    """Both splits, the labels by their numbers, and what the user should know of them."""

    train: PackedBatches
    validation: HeldOutRows
    labels: tuple[str, ...]
    notes: list[str]


def load_labelled(
    section: FinetuneSection, tokenizer: Tokenizer, *, causal: bool, length: int, seed: int
) -> LabelledData:
    """Read, split and encode the rows of `finetune.data` with their labels.

    Args:
        section: names the files, and the labels if their order matters.
        tokenizer: encodes.
        causal: which kind of model reads the texts.
        length: tokens of a sequence.
        seed: of the order in training.

    Raises:
        DataError: rows that cannot be used, a label that is not known, fewer than two
            labels, or nothing to validate with.
    """
    train, held_out, report, labels = labelled_rows(section)
    numbers = {label: number for number, label in enumerate(labels)}
    cuts = 0

    def encode(rows: list[LabelledRow]) -> LabelledTexts:
        nonlocal cuts
        parts = [np.zeros(0, np.int32)]
        for row in rows:
            ids, cut = encode_texts(row.texts, tokenizer, causal=causal, length=length)
            parts.append(np.array(ids, dtype=np.int32))
            cuts += cut
        return LabelledTexts(
            ids=np.concatenate(parts),
            starts=np.cumsum([len(part) for part in parts], dtype=np.int64),
            labels=np.array([numbers[row.label] for row in rows], dtype=np.int64),
            pad_id=tokenizer.pad_id,
            causal=causal,
        )

    batches = PackedBatches(
        encode(train),
        batch_size=section.batch_size,
        sequence_length=length,
        packing=section.packing,
        seed=seed,
    )
    validation = HeldOutRows(encode(held_out), length)
    notes = _notes(train, held_out, report, labels)
    if cuts:
        notes.append(f"{cuts:,} texts are longer than {length} tokens and were cut at their end")
    return LabelledData(batches, validation, labels, notes)


def labelled_rows(
    section: FinetuneSection,
) -> tuple[list[LabelledRow], list[LabelledRow], RowReport[LabelledRow], tuple[str, ...]]:
    """Rows to train on, to validate with, what was read, and the labels by their numbers.

    Raises:
        DataError: as `load_labelled`.
    """

    def read(data: Sequence[Rows]) -> RowReport[LabelledRow]:
        return read_labelled(data, on_error=section.on_error)

    train, held_out, report = divide_rows(section, "finetune", read, lambda r: "\0".join(r.texts))
    problems = ProblemLog(section.on_error, "finetune.on_error")
    if section.labels is not None:
        train = _known(_named(train, section.labels), section.labels, problems, "finetune.labels")
        held_out = _named(held_out, section.labels)
        labels = tuple(section.labels)
    else:
        if not section.validation_data:
            # A label that stands only in rows kept aside is learnt from them.
            there = {row.label for row in train}
            train += [row for row in held_out if row.label not in there]
            held_out = [row for row in held_out if row.label in there]
        labels = tuple(sorted({row.label for row in train}, key=_order))
    held_out = _known(held_out, labels, problems, "the training rows")
    problems.check()
    report.problems.counts.update(problems.counts)
    if len(labels) < 2:
        raise DataError(
            f"the rows have {len(labels)} label ({', '.join(labels)}); a classifier needs two",
            place="finetune.data",
        )
    if not train or not held_out:
        raise DataError(
            f"{len(train)} rows are left for training and {len(held_out)} for validation",
            place="finetune.data",
            remedy="Add rows, or raise finetune.validation_fraction.",
        )
    return train, held_out, report, labels


def _order(label: str) -> tuple[int, int, str]:
    """Numbers by their size, before words."""
    return (0, int(label), label) if label.isdecimal() else (1, 0, label)


def _named(rows: list[LabelledRow], labels: list[str]) -> list[LabelledRow]:
    """Names in the place of numbers, if no row has a name."""
    if not all(row.label.isdecimal() and int(row.label) < len(labels) for row in rows):
        return rows
    if any(row.label in labels for row in rows):
        return rows
    return [LabelledRow(row.texts, labels[int(row.label)], row.place) for row in rows]


def _known(
    rows: list[LabelledRow], labels: list[str] | tuple[str, ...], problems: ProblemLog, place: str
) -> list[LabelledRow]:
    """The rows whose label is one of these; the others are problems."""
    shown = ", ".join(labels[:8]) + (" …" if len(labels) > 8 else "")
    for row in rows:
        if row.label not in labels:
            problems.add(
                Problem(
                    row.place,
                    f"the label {row.label!r} is not in {place} ({shown})",
                    "unknown label",
                    "label",
                )
            )
    return [row for row in rows if row.label in labels]


def _notes(
    train: list[LabelledRow],
    held_out: list[LabelledRow],
    report: RowReport[LabelledRow],
    labels: tuple[str, ...],
) -> list[str]:
    counts = Counter(row.label for row in train)
    shown = ", ".join(f"{label} {counts[label]:,}" for label in labels[:12])
    more = f" and {len(labels) - 12} more" if len(labels) > 12 else ""
    most = counts.most_common(1)[0]
    notes = [
        f"Rows: {len(train):,} to train on, {len(held_out):,} to validate with",
        f"Labels: {shown}{more}; always saying {most[0]} would be right in "
        f"{most[1] / len(train):.1%}",
    ]
    return notes + left_out(report.problems.counts)
