"""Which rows are learnt, and which are kept aside to validate with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

from chatgpt_cli.config.schema import Rows
from chatgpt_cli.data.formats.conversations import ChatRow, TextRow
from chatgpt_cli.data.rows import RowReport
from chatgpt_cli.errors import DataError

T = TypeVar("T")


class RowsSection(Protocol):
    """The keys that say which rows a stage learns from, and which are kept aside."""

    @property
    def data(self) -> Sequence[Rows]:
        """Where the rows are."""

    @property
    def validation_data(self) -> Sequence[Rows]:
        """Where rows to validate with are, if they are files of their own."""

    @property
    def validation_fraction(self) -> float:
        """The share of `data` that is kept aside otherwise."""

    @property
    def on_error(self) -> Literal["stop", "skip"]:
        """What to do with a row that cannot be used."""


def divide_rows(
    section: RowsSection,
    stage: str,
    read: Callable[[Sequence[Rows]], RowReport[T]],
    text_of: Callable[[T], str],
) -> tuple[list[T], list[T], RowReport[T]]:
    """Rows to train on, rows to validate with, and what was read and left out.

    Args:
        section: names the files, and the share kept aside where it names no others.
        stage: the section's name.
        read: reads files.
        text_of: decides where a row belongs; rows with the same text stay together.

    Raises:
        DataError: rows that cannot be used, none to train on, or none to validate with.
    """
    if not section.data:
        raise DataError(
            f"{stage}.data names no rows",
            remedy=f"Name your files there, or repeat the --set {stage}.data of the training.",
        )
    report = read(section.data)
    rows = report.rows
    if section.validation_data:
        others = read(section.validation_data)
        held_out = others.rows
        report.problems.counts.update(others.problems.counts)
    else:
        texts = [text_of(row) for row in rows]
        chosen = _held_out(texts, section.validation_fraction)
        held_out = [row for row, text in zip(rows, texts, strict=True) if text in chosen]
        rows = [row for row, text in zip(rows, texts, strict=True) if text not in chosen]
    if not rows or not held_out:
        raise DataError(
            f"{len(report.rows)} rows give {len(rows)} for training and {len(held_out)} for "
            "validation; both are needed",
            place=f"{stage}.data",
            remedy=f"Add rows, raise {stage}.validation_fraction, or name validation_data.",
        )
    return rows, held_out, report


def _held_out(texts: Sequence[str], fraction: float) -> set[str]:
    """Texts chosen by their hash; at least one where there are two.

    A row's place depends on its own text, so it stays there when rows are added.
    """
    if not fraction or len(texts) < 2:
        return set()
    return {text for text in texts if _chance(text) < fraction} or {min(texts, key=_chance)}


def text_of(row: ChatRow | TextRow) -> str:
    """What makes a row the same as another."""
    if isinstance(row, TextRow):
        return row.text
    return "\0".join(f"{message.role}\0{message.content}" for message in row.messages)


def _chance(text: str) -> float:
    digest = hashlib.blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
