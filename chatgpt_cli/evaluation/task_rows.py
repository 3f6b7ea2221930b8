"""The rows of a task: what is asked, what is right, and what there is to choose from."""

from __future__ import annotations

import difflib
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from chatgpt_cli.config.schema import TaskSection
from chatgpt_cli.data.formats.conversations import ChatRow
from chatgpt_cli.data.formats.preferences import PreferenceRow
from chatgpt_cli.data.problems import Problem
from chatgpt_cli.data.records import read_rows as read_records
from chatgpt_cli.data.rows import read_preferences, read_rows
from chatgpt_cli.data.sources import ROW_SUFFIXES, find_files
from chatgpt_cli.errors import DataError
from chatgpt_cli.tokenizer.chat import Message


@dataclass(frozen=True)
class TaskRow:
    """One question. `choices` only where the answer is chosen and not written."""

    messages: tuple[Message, ...]
    references: list[str]
    place: str
    choices: list[str] | None = None


def read_task(task: TaskSection, *, limit: int | None) -> list[TaskRow]:
    """The rows of a task's data: conversations, or records put into its templates.

    Raises:
        DataError: if there are none, or one cannot be used.
    """
    if task.answer == "choice" and task.prompt is None and task.labels is None:
        pairs = read_preferences([task.data], on_error="stop", setting=None, limit=limit).rows
        return [_pair(pair) for pair in pairs]
    if task.prompt is None:
        rows = read_rows([task.data], on_error="stop", setting=None, limit=limit).rows
        return [_conversation(row, task) for row in rows]
    records = (
        record for file in find_files(task.data, ROW_SUFFIXES) for record in read_records(file)
    )
    found: list[TaskRow] = []
    for record in islice(records, limit):
        if isinstance(record, Problem):
            raise DataError(record.reason, place=record.place)
        found.append(_record(record.fields, record.place, task))
    if not found:
        raise DataError("there are no rows in it", place=task.data)
    return found


def _pair(row: PreferenceRow) -> TaskRow:
    """A better and a worse answer to choose from, each by its first turn."""
    answers = [answer[0].content.strip() for answer in (row.chosen, row.rejected)]
    return TaskRow(row.prompt, answers[:1], row.place, answers)


def _conversation(row: ChatRow, task: TaskSection) -> TaskRow:
    """A conversation up to its last answer, which is the reference, with `references`."""
    answer = row.messages[-1].content.strip()
    more = row.extra.get("references")
    others = [str(one) for one in more] if isinstance(more, list) else []
    references = [answer, *(one for one in others if one != answer)]
    choices = task.labels if task.answer == "choice" else None
    return TaskRow(tuple(row.messages[:-1]), references, row.place, choices)


def _record(fields: Mapping[str, Any], place: str, task: TaskSection) -> TaskRow:
    try:
        prompt = _one(task.prompt or "", fields)
        given = _several(task.reference or "", fields)
        references = list(dict.fromkeys(map(_text, given)))
        if task.answer != "choice":
            choices = None
        elif task.choices is None:
            choices = list(task.labels or [])
        elif isinstance(task.choices, str):
            choices = [_text(one) for one in _several(task.choices, fields)]
        else:
            choices = [_one(template, fields) for template in task.choices]
        if choices is not None:
            if "" in map(str.strip, choices):
                raise ValueError("a choice is empty")
            named = task.choice_names
            names = None if named is None else [_text(one) for one in _several(named, fields)]
            references = [_chosen(one, choices, names) for one in given]
    except ValueError as error:
        raise DataError(str(error), place=place, remedy=f"See the task {task.name}.") from error
    if not prompt.strip():
        raise DataError("the prompt is empty", place=place)
    if not references or (choices is not None and len(choices) < 2):
        raise DataError(
            "there is no reference" if not references else "there are fewer than two choices",
            place=place,
        )
    return TaskRow((Message("user", prompt),), references, place, choices)


class _Fields(string.Formatter):
    """Fills in `{field}` and `{field[key]}`, nothing else: no attributes, no calls."""

    def get_field(self, field_name: str, _: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        first, *keys = field_name.replace("]", "").split("[")
        if first not in kwargs:
            near = difflib.get_close_matches(first, [str(name) for name in kwargs], n=1)
            hint = (
                f"; did you mean {near[0]}?" if near else f"; it has {', '.join(map(str, kwargs))}"
            )
            raise ValueError(f"the row has no field {first!r}{hint}")
        value = kwargs[first]
        for key in keys:
            try:
                value = value[int(key) if isinstance(value, list) else key]
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise ValueError(f"{field_name} is not in the row") from error
        return value, first


def _one(template: str, fields: Mapping[str, Any]) -> str:
    return _Fields().vformat(template, (), fields)


def _several(template: str, fields: Mapping[str, Any]) -> list[Any]:
    """What the field holds, or each item of its list, where the template is one; else a text."""
    parts = list(string.Formatter().parse(template))
    if len(parts) == 1 and parts[0][0] == "" and parts[0][1]:
        value, _ = _Fields().get_field(parts[0][1], (), fields)
        return value if isinstance(value, list) else [value]
    return [_one(template, fields)]


def _text(value: Any) -> str:
    return str(value).strip()


def _chosen(given: Any, choices: list[str], names: list[str] | None) -> str:
    """The choice that a reference means: by its name, text, letter, or number from 0.

    A number that is none of JSON's strings is a position before it is a text: where the
    choices are numbers too, "answer": 2 is not the choice "2".
    """
    reference = _text(given)
    if names is not None and reference in names:
        return choices[names.index(reference)]
    if type(given) is int and 0 <= given < len(choices):
        return choices[given]
    if reference in choices:
        return reference
    if len(reference) == 1 and reference.upper() in string.ascii_uppercase:
        index = string.ascii_uppercase.index(reference.upper())
    elif reference.isdecimal():
        index = int(reference)
    else:
        index = len(choices)
    if index >= len(choices):
        raise ValueError(f"the reference {reference!r} is none of the {len(choices)} choices")
    return choices[index]
