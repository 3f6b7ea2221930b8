"""What a row is for, told by its fields; nothing is registered, no format is named."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chatgpt_cli.data.formats.classification import LabelledRow, classification
from chatgpt_cli.data.formats.conversations import (
    ChatRow,
    TextRow,
    alpaca,
    messages,
    plain_text,
    prompt_and_completion,
    question_about_text,
    sharegpt,
)
from chatgpt_cli.data.formats.fields import Row, RowFault, listed
from chatgpt_cli.data.formats.preferences import JudgedRow, PreferenceRow, judged, pair
from chatgpt_cli.data.formats.translation import TranslationRow, translation

Example = ChatRow | TextRow | TranslationRow | LabelledRow | PreferenceRow | JudgedRow

Format = Callable[[Row, str], Example | None]

# What a row of each kind is called in messages, and what learns from it.
KINDS: dict[type, str] = {
    ChatRow: "a conversation",
    TextRow: "plain text (finetune.task: language_modeling)",
    TranslationRow: "a translation",
    LabelledRow: "a labelled text (finetune.task: classification)",
    PreferenceRow: "a preference (`chatgpt prefer`)",
    JudgedRow: "an answer that is labelled good or bad",
}

# The first that fits is taken: those with more fields come first.
FORMATS: dict[str, tuple[type, Format]] = {
    "preference": (PreferenceRow, pair),
    "judged answer": (JudgedRow, judged),
    "messages": (ChatRow, messages),
    "ShareGPT": (ChatRow, sharegpt),
    "Alpaca": (ChatRow, alpaca),
    "question about a text": (ChatRow, question_about_text),
    "classification": (LabelledRow, classification),
    "prompt and completion": (ChatRow, prompt_and_completion),
    "translation": (TranslationRow, translation),
    "plain text": (TextRow, plain_text),
}


@dataclass(frozen=True)
class Recognised:
    """A row, the format it is in, and the fields that say so."""

    format: str
    fields: tuple[str, ...]
    example: Example


def recognise(
    fields: Mapping[str, Any], place: str = "", *, first: tuple[str, ...] = ()
) -> Recognised:
    """Read a row in the format that its fields show.

    Args:
        fields: by name.
        place: "file:line", for messages.
        first: formats that are tried before all others, because a row may serve
            several ends.

    Raises:
        RowFault: if no format fits, or what it holds cannot be used.
    """
    row = Row(fields)
    for name in [*first, *FORMATS]:
        row.used.clear()
        example = FORMATS[name][1](row, place)
        if example is not None:
            return Recognised(name, tuple(row.used), example)
    raise _unknown(row)


def _unknown(row: Row) -> RowFault:
    known = [
        "messages",
        "conversations",
        "instruction",
        "output",
        "prompt",
        "completion",
        "question",
        "answer",
        "context",
        "text",
        "label",
        "chosen",
        "rejected",
        "translation",
        "source",
        "target",
    ]
    for name, value in row.fields.items():
        if value is None and str(name).lower() in known:
            return RowFault(f"{name} is null", field=str(name), kind="unknown format")
    missing = [name for name in known if not row.has(name)]
    near = [
        f"{match!r} for {str(name)!r}"
        for name in row.fields
        if str(name).lower() not in known
        for match in difflib.get_close_matches(str(name).lower(), missing, n=1)
    ]
    hint = f"; did you mean {near[0]}?" if near else "."
    return RowFault(
        f"no known format has these fields ({listed(map(str, row.fields))}){hint} Known are: "
        "messages; ShareGPT conversations; instruction, output; prompt, completion; question, "
        "answer; context, question, answers; source, target (or two language columns); text, "
        "label; prompt, chosen, rejected; text",
        kind="unknown format",
    )
