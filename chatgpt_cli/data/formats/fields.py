"""The fields of a row: which are there, which a format took, and what is wrong with one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


class RowFault(ValueError):
    """What is wrong with a row: a sentence for the user that names the field."""

    def __init__(self, reason: str, *, field: str | None = None, kind: str = "unusable row"):
        """Args:
        reason: the sentence.
        field: where in the row; None if it is not one field's fault.
        kind: a few words that count alike faults together.
        """
        super().__init__(reason)
        self.reason = reason
        self.field = field
        self.kind = kind


class Row:
    """A row's fields as formats ask for them, whatever their capitals.

    A field that is null or absent is not there.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = dict(fields)
        # What a format took, in that order: the reason why it was chosen.
        self.used: list[str] = []
        self._spelling = {str(name).strip().lower(): name for name in reversed(self.fields)}
        self._spelling.update({str(name): name for name in self.fields})

    def value(self, name: str) -> Any:
        """What the field holds, None if it is not there."""
        return self.fields.get(self._spelling.get(name, name))

    def has(self, *names: str) -> str | None:
        """The first of these fields that is there, as the file spells it."""
        found = next((name for name in names if self.value(name) is not None), None)
        return None if found is None else self._spelling[found]

    def has_all(self, *names: str) -> bool:
        """Whether all of these fields are there."""
        return all(self.value(name) is not None for name in names)

    def take(self, *names: str) -> tuple[str, Any] | None:
        """Name and value of the first of these fields that is there."""
        name = self.has(*names)
        if name is None:
            return None
        if name not in self.used:
            self.used.append(name)
        return name, self.fields[name]

    def unused(self) -> dict[str, Any]:
        """The fields that no format took."""
        return {name: value for name, value in self.fields.items() if name not in self.used}

    def text(self, *names: str) -> str | None:
        """The first of these fields, which must be text; None if none is there."""
        found = self.take(*names)
        return None if found is None else as_text(found[1], found[0])

    def needed_text(self, *names: str) -> str:
        """As `text`, for fields without which the row makes no sense."""
        found = self.text(*names)
        if found is None:
            raise missing(names[0])
        return found

    def items(self, *names: str) -> tuple[str, list[Any]] | None:
        """Name and value of the first of these fields, which must be a list."""
        found = self.take(*names)
        if found is None:
            return None
        name, value = found
        value = from_json_text(value, name)
        if not isinstance(value, list):
            raise RowFault(f"{name} must be a list of messages", field=name, kind="wrong type")
        return name, value


def missing(field: str) -> RowFault:
    """The fault of a row that lacks a field."""
    return RowFault(f"{field} is missing or null", field=field, kind="field is missing")


def from_json_text(value: Any, field: str) -> Any:
    """CSV and TSV can hold a list or an object only as JSON text."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RowFault(
            f"{field} holds a list that is not JSON ({error})", field=field, kind="not JSON"
        ) from error


def as_text(value: object, field: str) -> str:
    """A string, or OpenAI's list of text parts joined.

    Raises:
        RowFault: for anything else.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        if all(part.get("type") == "text" for part in value):
            return "".join(str(part.get("text", "")) for part in value)
        raise RowFault(
            f"{field} holds parts that are not text; only text can be learnt",
            field=field,
            kind="not text",
        )
    if value is None:
        raise missing(field)
    raise RowFault(f"{field} must be text, it holds {named(value)}", field=field, kind="wrong type")


_TRUE = ("true", "1", "1.0", "yes", "desirable")
_FALSE = ("false", "0", "0.0", "no", "undesirable")


def is_flag(value: object) -> bool:
    """Whether `as_flag` accepts it."""
    return str(value).strip().lower() in _TRUE + _FALSE


def as_flag(value: object, field: str) -> bool:
    """True or false, also as 0, 1 and the words that CSV files hold."""
    if not is_flag(value):
        raise RowFault(
            f"{field} is {short(value)}; it must be true (a good answer) or false (a bad one)",
            field=field,
            kind="label is not true or false",
        )
    return str(value).strip().lower() in _TRUE


def named(value: object) -> str:
    """What kind of JSON value this is, in words."""
    return {
        type(None): "null",
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
    }.get(type(value), type(value).__name__)


def short(value: object) -> str:
    """A value as a message can show it."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"


def listed(names: Iterable[str]) -> str:
    """Names for a sentence; "none" if there are none."""
    return ", ".join(list(names)[:8]) or "none"
