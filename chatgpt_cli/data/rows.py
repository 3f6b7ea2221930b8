"""Rows from files, for finetuning and evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Literal, TypeVar

from chatgpt_cli.config.schema import (
    Direction,
    FinetuneSection,
    FinetuneTask,
    ParallelFiles,
    Rows,
)
from chatgpt_cli.data.formats.classification import LabelledRow
from chatgpt_cli.data.formats.conversations import ChatRow, TextRow
from chatgpt_cli.data.formats.fields import RowFault
from chatgpt_cli.data.formats.preferences import PreferenceRow
from chatgpt_cli.data.formats.recognise import FORMATS, KINDS, Recognised, recognise
from chatgpt_cli.data.formats.translation import TranslationRow
from chatgpt_cli.data.parallel import read_parallel
from chatgpt_cli.data.problems import Problem, ProblemLog
from chatgpt_cli.data.records import Row, whole_text
from chatgpt_cli.data.records import read_rows as read_records
from chatgpt_cli.data.sources import ROW_SUFFIXES, TEXT_SUFFIXES, DataFile, find_files

OnError = Literal["stop", "skip"]
_SETTING = "finetune.on_error"
# Rows of each source that are looked at before the model is loaded.
_CHECKED = 1000
T = TypeVar("T")

# The formats that a task of finetuning learns from.
_CHAT = tuple(
    name for name, (kind, _) in FORMATS.items() if kind in (ChatRow, TranslationRow, TextRow)
)
FORMATS_OF: dict[FinetuneTask, tuple[str, ...]] = {
    "chat": _CHAT,
    "instruction": ("Alpaca", "prompt and completion"),
    "qa": ("question about a text", "prompt and completion"),
    "translation": ("translation",),
    "classification": ("classification",),
    "language_modeling": ("plain text",),
    "masked_language_modeling": ("plain text",),
}


@dataclass(frozen=True)
class RowReport(Generic[T]):
    """The usable rows, how many there are of each format, and what was left out."""

    rows: list[T]
    formats: Counter[str]
    problems: ProblemLog


def read_rows(
    patterns: Sequence[Rows],
    *,
    on_error: OnError,
    setting: str | None = _SETTING,
    limit: int | None = None,
) -> RowReport[ChatRow]:
    """Read conversations from files, folders, globs or URLs, whatever their format.

    Args:
        patterns: where to look; see `find_files`.
        on_error: "stop" raises at rows that cannot be used, "skip" counts them.
        setting: the key that `on_error` comes from, for the message; None if it is none.
        limit: read at most so many rows.

    Raises:
        DataError: for unusable rows (the first ten, with file and line), or if there
            is no usable row at all.
    """
    formats = tuple(name for name in _CHAT if name != "plain text")
    found = _read(patterns, formats, on_error, setting, limit=limit)
    rows = [row for one in found.rows for row in learnt(one, "forward") if isinstance(row, ChatRow)]
    return RowReport(rows, found.formats, found.problems)


def read_learnt(
    patterns: Sequence[Rows], task: FinetuneTask, direction: Direction, *, on_error: OnError
) -> RowReport[ChatRow | TextRow]:
    """Read what a task of finetuning learns to write; errors as `read_rows`."""
    found = read_groups(patterns, task, direction, on_error=on_error)
    return RowReport([row for group in found.rows for row in group], found.formats, found.problems)


def read_groups(
    patterns: Sequence[Rows], task: FinetuneTask, direction: Direction, *, on_error: OnError
) -> RowReport[list[ChatRow | TextRow]]:
    """As `read_learnt`, with all that is learnt of one row together: both directions of a pair."""
    found = _read(patterns, FORMATS_OF[task], on_error, _SETTING)
    groups = [learnt(one, direction) for one in found.rows]
    return RowReport([group for group in groups if group], found.formats, found.problems)


def check_rows(section: FinetuneSection) -> None:
    """Look for the files of finetuning, and at their first rows, before anything is loaded.

    Raises:
        DataError: as `read_rows`.
    """
    wanted = FORMATS_OF[section.task]
    problems = ProblemLog(section.on_error, _SETTING)
    for pattern in (*section.data, *section.validation_data):
        for item in islice(examples([pattern], wanted), _CHECKED):
            if isinstance(item, Problem):
                problems.add(item)
    problems.check()


def learnt(found: Recognised, direction: Direction) -> list[ChatRow | TextRow]:
    """What a model learns of a row; nothing of rows with labels or preferences."""
    example = found.example
    if isinstance(example, TranslationRow):
        return list(example.conversations(direction))
    return [example] if isinstance(example, ChatRow | TextRow) else []


def read_labelled(
    patterns: Sequence[Rows], *, on_error: OnError, setting: str | None = _SETTING
) -> RowReport[LabelledRow]:
    """Read texts with the names of their classes; arguments and errors as `read_rows`."""
    found = _read(patterns, FORMATS_OF["classification"], on_error, setting)
    rows = [one.example for one in found.rows if isinstance(one.example, LabelledRow)]
    return RowReport(rows, found.formats, found.problems)


def read_preferences(
    patterns: Sequence[Rows],
    *,
    on_error: OnError,
    setting: str | None = _SETTING,
    limit: int | None = None,
) -> RowReport[PreferenceRow]:
    """Read pairs of a better and a worse answer; arguments and errors as `read_rows`."""
    found = _read(patterns, ("preference",), on_error, setting, limit=limit)
    rows = [one.example for one in found.rows if isinstance(one.example, PreferenceRow)]
    return RowReport(rows, found.formats, found.problems)


def _read(
    patterns: Sequence[Rows],
    wanted: tuple[str, ...],
    on_error: OnError,
    setting: str | None,
    *,
    limit: int | None = None,
) -> RowReport[Recognised]:
    """The rows in these formats; others are problems."""
    problems = ProblemLog(on_error, setting)
    rows: list[Recognised] = []
    formats: Counter[str] = Counter()
    for item in examples(patterns, wanted):
        if isinstance(item, Problem):
            problems.add(item)
            continue
        formats[item.format] += 1
        rows.append(item)
        if limit is not None and len(rows) >= limit:
            break
    problems.check()
    return RowReport(rows, formats, problems)


def examples(
    patterns: Sequence[Rows], wanted: tuple[str, ...] = tuple(FORMATS)
) -> Iterator[Recognised | Problem]:
    """Every row as an example in one of these formats, or what is wrong with it.

    Args:
        patterns: where to look; see `find_files`. Text files are read where plain text
            is wanted and nothing else is.
        wanted: names in `FORMATS`; a row in another format is a problem.

    Raises:
        DataError: if there is no such file.
    """
    only_text = wanted == ("plain text",)
    for pattern in patterns:
        if isinstance(pattern, ParallelFiles):
            for pair in read_parallel(pattern):
                if isinstance(pair, TranslationRow):
                    found = Recognised("translation", ("source", "target"), pair)
                    yield _if_wanted(found, pair.place, wanted)
                else:
                    yield pair
            continue
        for file in find_files(pattern, ROW_SUFFIXES + (TEXT_SUFFIXES if only_text else ())):
            if file.kind in TEXT_SUFFIXES:
                yield _text(file)
                continue
            for record in read_records(file):
                yield record if isinstance(record, Problem) else _example(record, wanted)


def _text(file: DataFile) -> Recognised | Problem:
    """A text file, which is one text."""
    text = whole_text(file)
    if isinstance(text, Problem):
        return text
    return Recognised("plain text", (), TextRow(text, file.name))


def _example(record: Row, wanted: tuple[str, ...]) -> Recognised | Problem:
    # Conversations are told from other rows by all formats; where one format is
    # wanted, its fields are looked for before those of others.
    first = () if set(wanted) >= set(_CHAT) - {"plain text"} else wanted
    try:
        found = recognise(record.fields, record.place, first=first)
    except RowFault as fault:
        return Problem(record.place, fault.reason, fault.kind, fault.field)
    return _if_wanted(found, record.place, wanted)


def _if_wanted(found: Recognised, place: str, wanted: tuple[str, ...]) -> Recognised | Problem:
    if found.format in wanted:
        return found
    kind = KINDS[FORMATS[found.format][0]]
    many = "rows that have an answer" if len(wanted) > 2 else " or ".join(wanted)
    asked = f"what is wanted here is {many}"
    if FORMATS[found.format][0] is ChatRow:
        kind = f"a row of the format {found.format}"
    return Problem(
        place,
        f"the fields ({', '.join(found.fields)}) make this {kind}; {asked}",
        "row of another kind",
    )
