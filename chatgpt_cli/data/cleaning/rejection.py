"""Documents judged one by one: language, quality; and signed, to be compared with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chatgpt_cli.config.schema import DataSection
from chatgpt_cli.data.cleaning.filters import Batch, failed_rules
from chatgpt_cli.data.cleaning.identify import languages_of
from chatgpt_cli.data.cleaning.near_duplicates import Signatures, signatures
from chatgpt_cli.data.cleaning.units import units_of
from chatgpt_cli.data.documents import Document

# Documents shown of each rule, and characters of each.
_EXAMPLES = 3
_BEGINNING = 80


@dataclass
class Rejections:
    """How many documents each rule has left out, and some of them.

    `rules` is {rule: {"documents": number, "examples": [{"place", "text"}]}}.
    """

    rules: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, rule: str, place: str, text: str) -> None:
        """Count a document, and keep the beginning of one of the first."""
        entry = self.rules.setdefault(rule, {"documents": 0, "examples": []})
        entry["documents"] += 1
        if len(entry["examples"]) < _EXAMPLES:
            beginning = " ".join(text[: 2 * _BEGINNING].split())[:_BEGINNING]
            entry["examples"].append({"place": place, "text": beginning})

    def merge(self, rules: dict[str, dict[str, Any]]) -> None:
        """Add what was found in documents that come later."""
        for rule, found in rules.items():
            entry = self.rules.setdefault(rule, {"documents": 0, "examples": []})
            entry["documents"] += found["documents"]
            entry["examples"] = (entry["examples"] + found["examples"])[:_EXAMPLES]


@dataclass(frozen=True)
class Review:
    """Of each document: the rule it breaks, if any; and all signatures, if they are needed."""

    broken: list[str | None]
    signatures: Signatures | None


def review(documents: Sequence[Document], section: DataSection) -> Review:
    """Judge documents by those of `data.languages` and `data.filters` that are set."""
    broken: list[str | None] = [None] * len(documents)
    texts = [document.text for document in documents]
    if section.languages is not None:
        for number, language in enumerate(languages_of(texts)):
            if language not in section.languages:
                broken[number] = "languages"
    if section.filters is None and section.near_duplicates is None:
        return Review(broken, None)
    units = units_of(texts)
    if section.filters is not None:
        failed = failed_rules(Batch(texts, units, section.filters))
        broken = [first or second for first, second in zip(broken, failed, strict=True)]
    signed = None
    if section.near_duplicates is not None:
        signed = signatures(units, section.near_duplicates)
    return Review(broken, signed)
