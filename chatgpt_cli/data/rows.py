"""Supervised rows from files, for finetuning and evaluation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from chatgpt_cli.data.problems import Problem, ProblemLog
from chatgpt_cli.data.records import read_rows as read_records
from chatgpt_cli.data.row_formats import convert
from chatgpt_cli.data.sources import ROW_SUFFIXES, find_files
from chatgpt_cli.tokenizer.chat import Message


@dataclass(frozen=True)
class ChatRow:
    """One conversation, and where it stands ("file:line")."""

    messages: tuple[Message, ...]
    place: str
    task: str | None = None
    # The fields that are not part of the conversation, such as `references`.
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RowReport:
    """The usable rows, how many there are of each format, and what was left out."""

    rows: list[ChatRow]
    formats: Counter[str]
    problems: ProblemLog


def read_rows(
    patterns: list[str],
    *,
    on_error: Literal["stop", "skip"],
    setting: str = "finetune.on_error",
    limit: int | None = None,
) -> RowReport:
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
    problems = ProblemLog(on_error, setting)
    rows: list[ChatRow] = []
    formats: Counter[str] = Counter()
    for pattern in patterns:
        for file in find_files(pattern, ROW_SUFFIXES):
            for record in read_records(file):
                if limit is not None and len(rows) >= limit:
                    break
                if isinstance(record, Problem):
                    problems.add(record)
                    continue
                try:
                    name, messages = convert(record.fields)
                except ValueError as error:
                    problems.add(Problem(record.place, str(error), "unusable row"))
                    continue
                formats[name] += 1
                rows.append(_row(record.place, record.fields, messages))
    problems.check()
    return RowReport(rows, formats, problems)


def _row(place: str, fields: dict[str, Any], messages: list[Message]) -> ChatRow:
    task = fields.get("task")
    spoken = ("messages", "conversations", "conversation", "task")
    extra = {key: value for key, value in fields.items() if key not in spoken}
    return ChatRow(tuple(messages), place, task if isinstance(task, str) else None, extra)
