"""Rows that say which class a text, or a pair of texts, belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from chatgpt_cli.data.formats.fields import Row, RowFault, as_text, named

_LABELS = (
    "label_text",
    "label_name",
    "label",
    "category",
    "class",
    "sentiment",
    "intent",
    "class_index",
    "class index",
)
_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("text", "text_pair"),
    ("question", "sentence"),
    ("title", "description"),
)
_TEXTS = ("text", "sentence", "content", "review", "comment", "tweet", "premise", "description")


@dataclass(frozen=True)
class LabelledRow:
    """A text (or two that belong together) and the name of its class."""

    texts: tuple[str, ...]
    label: str
    place: str


def classification(row: Row, place: str) -> LabelledRow | None:
    """{"text", "label"}, and sentence pairs such as {"premise", "hypothesis", "label"}.

    A number as label is the name of its class, unless `label_text` says it in words.
    """
    if row.has(*_LABELS) is None:
        return None
    pairs: list[tuple[str, ...]] = [pair for pair in _PAIRS if row.has_all(*pair)]
    names = next(iter(pairs + [(name,) for name in _TEXTS if row.has(name)]), None)
    if names is None:
        return None
    texts = tuple(row.needed_text(name) for name in names)
    for name, text in zip(names, texts, strict=True):
        if not text.strip():
            raise RowFault(f"{name} is empty", field=name, kind="empty text")
    found = row.take(*_LABELS)
    assert found is not None
    return LabelledRow(texts, _label(*found), place)


def _label(name: str, value: object) -> str:
    if isinstance(value, list):
        raise RowFault(
            f"{name} holds {len(value)} labels; a row must have one",
            field=name,
            kind="several labels",
        )
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        if value == -1:
            # How collections of data sets mark test rows whose label is kept secret.
            raise RowFault(f"{name} is -1: the row has no label", field=name, kind="no label")
        return str(value)
    if not isinstance(value, str):
        raise RowFault(
            f"{name} must be text or a whole number, it holds {named(value)}",
            field=name,
            kind="wrong type",
        )
    if not value.strip():
        raise RowFault(f"{name} is empty", field=name, kind="no label")
    return as_text(value, name).strip()
