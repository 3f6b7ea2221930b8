"""Files that hold many rows in one object, laid out flat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def rows_in(place: str, fields: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows that an object stands for, each with its place; mostly itself.

    SQuAD as published is {"data": [{"paragraphs": [{"context", "qas": [{"question",
    "answers", "is_impossible"}]}]}]}; other collections put plain rows under "data".
    """
    if isinstance(fields.get("qas"), list) and "context" in fields:
        for number, question in enumerate(fields["qas"], start=1):
            if isinstance(question, dict):
                flat = {"context": fields["context"], **question}
                yield f"{place}, question {number}", flat
        return
    for name, called in (("data", "article"), ("paragraphs", "paragraph")):
        inner = fields.get(name)
        if isinstance(inner, list) and inner and all(isinstance(one, dict) for one in inner):
            for number, one in enumerate(inner, start=1):
                yield from rows_in(f"{place}, {called} {number}", one)
            return
    yield place, fields
