"""Rows from files, for finetuning and evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from chatgpt_cli.data.formats.conversations import ChatRow
from chatgpt_cli.data.formats.fields import RowFault
from chatgpt_cli.data.formats.preferences import JudgedRow, PreferenceRow
from chatgpt_cli.data.formats.recognise import KINDS, Recognised, recognise
from chatgpt_cli.data.formats.translation import TranslationRow
from chatgpt_cli.data.problems import Problem, ProblemLog
from chatgpt_cli.data.records import Row
from chatgpt_cli.data.records import read_rows as read_records
from chatgpt_cli.data.sources import ROW_SUFFIXES, find_files

OnError = Literal["stop", "skip"]
_SETTING = "finetune.on_error"
T = TypeVar("T")


@dataclass(frozen=True)
class RowReport(Generic[T]):
    """The usable rows, how many there are of each format, and what was left out."""

    rows: list[T]
    formats: Counter[str]
    problems: ProblemLog


def read_rows(
    patterns: list[str],
    *,
    on_error: OnError,
    setting: str = _SETTING,
    limit: int | None = None,
) -> RowReport[ChatRow]:
    """Read conversations from files, folders, globs or URLs, whatever their format.

    Args:
        patterns: where to look; see `find_files`.
        on_error: "stop" raises at rows that cannot be used, "skip" counts them.
        setting: the key that `on_error` comes from, for the message.
        limit: read at most so many rows.

    Raises:
        DataError: for unusable rows (the first ten, with file and line), or if there
            is no usable row at all.
    """
    found = _read(patterns, (ChatRow, TranslationRow), on_error, setting, limit=limit)
    rows = [row for one in found.rows for row in _conversations(one)]
    return RowReport(rows, found.formats, found.problems)


def _conversations(found: Recognised) -> list[ChatRow]:
    example = found.example
    if isinstance(example, TranslationRow):
        return example.conversations("forward")
    return [example] if isinstance(example, ChatRow) else []


def read_preferences(
    patterns: list[str], *, on_error: OnError, setting: str = _SETTING, limit: int | None = None
) -> RowReport[PreferenceRow]:
    """Read pairs of a better and a worse answer; arguments and errors as `read_rows`."""
    found = _read(patterns, (PreferenceRow,), on_error, setting, limit=limit)
    rows = [one.example for one in found.rows if isinstance(one.example, PreferenceRow)]
    return RowReport(rows, found.formats, found.problems)


def read_judged(
    patterns: list[str], *, on_error: OnError, setting: str = _SETTING, limit: int | None = None
) -> RowReport[JudgedRow]:
    """Read answers that are labelled good or bad; arguments and errors as `read_rows`.

    A pair counts as two: its better answer is good, its worse one is bad.
    """
    kinds = (JudgedRow, PreferenceRow)
    found = _read(patterns, kinds, on_error, setting, limit=limit)
    rows: list[JudgedRow] = []
    for one in found.rows:
        if isinstance(one.example, JudgedRow):
            rows.append(one.example)
        elif isinstance(one.example, PreferenceRow):
            pair = one.example
            rows.append(JudgedRow(pair.prompt, pair.chosen, True, pair.place))
            rows.append(JudgedRow(pair.prompt, pair.rejected, False, pair.place))
    return RowReport(rows, found.formats, found.problems)


def _read(
    patterns: list[str],
    kinds: tuple[type, ...],
    on_error: OnError,
    setting: str,
    *,
    limit: int | None,
) -> RowReport[Recognised]:
    """The rows of these kinds; others are problems."""
    problems = ProblemLog(on_error, setting)
    rows: list[Recognised] = []
    formats: Counter[str] = Counter()
    for item in examples(patterns, kinds):
        if isinstance(item, Problem):
            problems.add(item)
            continue
        formats[item.format] += 1
        rows.append(item)
        if limit is not None and len(rows) >= limit:
            break
    problems.check()
    return RowReport(rows, formats, problems)


def examples(patterns: list[str], kinds: tuple[type, ...]) -> Iterator[Recognised | Problem]:
    """Every row as an example of one of these kinds, or what is wrong with it.

    Args:
        patterns: where to look; see `find_files`.
        kinds: what is wanted, such as `PreferenceRow`; a row of another kind is a problem.

    Raises:
        DataError: if there is no such file.
    """
    for pattern in patterns:
        for file in find_files(pattern, ROW_SUFFIXES):
            for record in read_records(file):
                yield record if isinstance(record, Problem) else _example(record, kinds)


def _example(record: Row, kinds: tuple[type, ...]) -> Recognised | Problem:
    # Conversations are told from other rows by all formats; other kinds are asked for.
    first = () if ChatRow in kinds else kinds
    try:
        found = recognise(record.fields, record.place, first=first)
    except RowFault as fault:
        return Problem(record.place, fault.reason, fault.kind, fault.field)
    if isinstance(found.example, kinds):
        return found
    wanted = " or ".join(KINDS[kind] for kind in kinds)
    return Problem(
        record.place,
        f"the fields ({', '.join(found.fields)}) make this {KINDS[type(found.example)]}; "
        f"what is wanted here is {wanted}",
        "row of another kind",
    )
