"""Rows that hold a text in two languages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chatgpt_cli.config.schema import Direction
from chatgpt_cli.data.formats.conversations import ChatRow
from chatgpt_cli.data.formats.fields import Row, RowFault, as_text, from_json_text, listed
from chatgpt_cli.data.formats.languages import is_chinese, language
from chatgpt_cli.tokenizer.chat import Message

# As columns by themselves these are mostly something else.
_AMBIGUOUS = ("id", "no")


@dataclass(frozen=True)
class TranslationRow:
    """One text twice, and what the languages are called (None: not said)."""

    source: str
    target: str
    languages: tuple[str | None, str | None]
    place: str
    # The row's other fields, such as `references`.
    extra: dict[str, Any] = field(default_factory=dict)

    def conversations(self, direction: Direction) -> list[ChatRow]:
        """The row as questions and answers: from source to target, back, or both."""
        there = self._ask(self.source, self.target, self.languages[1])
        back = self._ask(self.target, self.source, self.languages[0])
        return {"forward": [there], "backward": [back], "both": [there, back]}[direction]

    def _ask(self, text: str, answer: str, into: str | None) -> ChatRow:
        name = into or ("Chinese" if is_chinese(answer) else "English")
        asked = Message("user", f"Translate into {name}: {text}")
        return ChatRow((asked, Message("assistant", answer)), self.place, extra=self.extra)


def translation(row: Row, place: str) -> TranslationRow | None:
    """{"translation": {"en", "zh"}}, {"src", "tgt"}, {"source", "target"} or columns en, zh."""
    if row.has("translation"):
        return _object(row, place)
    if row.has("src", "source") and row.has("tgt", "target"):
        return _named(row, place)
    return _columns(row, place)


def _object(row: Row, place: str) -> TranslationRow | None:
    found = row.take("translation")
    value = None if found is None else from_json_text(found[1], found[0])
    if not isinstance(value, dict):
        # A column of this name beside others: not this format.
        return None
    if len(value) != 2:
        raise RowFault(
            f"translation holds {len(value)} languages ({listed(value)}); a row must have two",
            field="translation",
            kind="not two languages",
        )
    return _pair(
        [
            (f"translation.{name}", text, language(str(name)) or str(name))
            for name, text in value.items()
        ],
        row,
        place,
    )


def _named(row: Row, place: str) -> TranslationRow:
    said = [row.text("src_lang", "source_lang"), row.text("tgt_lang", "target_lang")]
    source, target = row.take("src", "source"), row.take("tgt", "target")
    assert source is not None and target is not None
    names = [language(name) or name if name else None for name in said]
    return _pair([(*source, names[0]), (*target, names[1])], row, place)


def _columns(row: Row, place: str) -> TranslationRow | None:
    """Two columns named by their languages; the first is the source."""
    names = [
        name
        for name, value in row.fields.items()
        if language(str(name)) and str(name).lower() not in _AMBIGUOUS and value is not None
    ]
    if len(names) != 2:
        return None
    for name in names:
        row.take(name)
    return _pair([(name, row.fields[name], language(name)) for name in names], row, place)


def _pair(sides: list[tuple[str, object, str | None]], row: Row, place: str) -> TranslationRow:
    texts = [as_text(value, name) for name, value, _ in sides]
    for (name, _, _), text in zip(sides, texts, strict=True):
        if not text.strip():
            raise RowFault(f"{name} is empty", field=name, kind="empty message")
    return TranslationRow(texts[0], texts[1], (sides[0][2], sides[1][2]), place, row.unused())
