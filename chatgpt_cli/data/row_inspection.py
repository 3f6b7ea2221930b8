"""What finetuning would make of files: formats, faults, lengths, labels, and rows as seen."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from chatgpt_cli.config.schema import FinetuneSection, Rows
from chatgpt_cli.data.formats.classification import LabelledRow
from chatgpt_cli.data.formats.conversations import ChatRow, TextRow
from chatgpt_cli.data.formats.fields import RowFault
from chatgpt_cli.data.formats.preferences import JudgedRow, PreferenceRow
from chatgpt_cli.data.formats.recognise import FORMATS, Example, Recognised
from chatgpt_cli.data.formats.translation import TranslationRow
from chatgpt_cli.data.problems import Problem
from chatgpt_cli.data.row_encoder import RowEncoder
from chatgpt_cli.data.rows import FORMATS_OF, examples
from chatgpt_cli.data.unknown_characters import UnknownCharacters
from chatgpt_cli.tokenizer.chat import Message
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Span:
    """A stretch of what a model sees, and whether it learns to write it."""

    text: str
    learnt: bool


@dataclass(frozen=True)
class View:
    """One sequence that a row gives: its text, its length before it is cut to fit."""

    title: str
    spans: tuple[Span, ...]
    length: int
    cut: bool = False


@dataclass(frozen=True)
class Sample:
    """A row as the model will see it."""

    place: str
    format: str
    views: tuple[View, ...]


@dataclass(frozen=True)
class Lengths:
    """How long the sequences are, in tokens, or in characters without a tokenizer."""

    unit: Literal["tokens", "characters"]
    median: int
    percentile_95: int
    longest: int
    longest_place: str
    # Tokens that a sequence of the project holds, and how many rows were longer.
    limit: int | None
    truncated: int


@dataclass
class Found:
    """What there is of one format."""

    rows: int = 0
    # Which fields told it, and how often.
    fields: Counter[tuple[str, ...]] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)


@dataclass
class RowInspection:
    """The answer to "what is in these files?"."""

    formats: dict[str, Found] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    # Rows that were there before, with the place of the first one.
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    lengths: Lengths | None = None
    # Those that the tokenizer writes as bytes.
    unknown: UnknownCharacters = field(default_factory=lambda: UnknownCharacters(None))

    @property
    def rows(self) -> int:
        """Those that can be used."""
        return sum(found.rows for found in self.formats.values())

    @property
    def reasons(self) -> Counter[str]:
        """How many rows would be left out, by what is wrong with them."""
        return Counter(problem.kind for problem in self.problems)


def inspect_rows(
    patterns: Sequence[Rows],
    section: FinetuneSection,
    tokenizer: Tokenizer | None,
    *,
    length: int | None,
    samples: int,
) -> RowInspection:
    """Read every row as finetuning would, and count.

    Args:
        patterns: files, folders, globs, or pairs of aligned files.
        section: the system prompt, the direction of translations, and whether the task
            takes text files.
        tokenizer: None counts characters and cuts nothing.
        length: tokens of a sequence.
        samples: rows of each format to keep as they are seen.

    Raises:
        DataError: if a file is not there.
    """
    inspection = RowInspection()
    seer = _Seer(section, tokenizer, length)
    inspection.unknown = seer.unknown
    seen: dict[bytes, str] = {}
    measured: list[tuple[int, str]] = []
    truncated = 0
    only_text = section.task in ("language_modeling", "masked_language_modeling")
    for item in examples(patterns, FORMATS_OF[section.task] if only_text else tuple(FORMATS)):
        if isinstance(item, Problem):
            inspection.problems.append(item)
            continue
        place = item.example.place
        known = inspection.formats.get(item.format, Found())
        shown = len(known.samples) < samples
        try:
            views = seer.views(item.example, shown=shown)
        except RowFault as fault:
            inspection.problems.append(Problem(place, fault.reason, fault.kind, fault.field))
            continue
        found = inspection.formats.setdefault(item.format, known)
        found.rows += 1
        found.fields[item.fields] += 1
        if shown:
            found.samples.append(Sample(place, item.format, views))
        if isinstance(item.example, LabelledRow):
            inspection.labels[item.example.label] += 1
        measured.append((max(view.length for view in views), place))
        truncated += any(view.cut for view in views)
        _note_duplicate(item, seen, inspection)
    if measured:
        inspection.lengths = _lengths(measured, tokenizer, length, truncated)
    return inspection


def _note_duplicate(item: Recognised, seen: dict[bytes, str], inspection: RowInspection) -> None:
    content = repr({k: v for k, v in vars(item.example).items() if k not in ("place", "extra")})
    digest = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=12).digest()
    first = seen.setdefault(digest, item.example.place)
    if first != item.example.place:
        inspection.duplicates.append((item.example.place, first))


def _lengths(
    measured: list[tuple[int, str]], tokenizer: Tokenizer | None, limit: int | None, truncated: int
) -> Lengths:
    sizes = np.array([size for size, _ in measured])
    longest = int(sizes.argmax())
    return Lengths(
        "characters" if tokenizer is None else "tokens",
        median=int(np.median(sizes)),
        percentile_95=int(np.percentile(sizes, 95)),
        longest=int(sizes[longest]),
        longest_place=measured[longest][1],
        limit=None if tokenizer is None else limit,
        truncated=truncated,
    )


class _Seer:
    """Rows as sequences, with what is learnt of them."""

    def __init__(
        self, section: FinetuneSection, tokenizer: Tokenizer | None, length: int | None
    ) -> None:
        self._section = section
        self._tokenizer = tokenizer
        self._limit = length or 1 << 30
        self.unknown = UnknownCharacters(tokenizer)

    def views(self, example: Example, *, shown: bool) -> tuple[View, ...]:
        """The sequences of a row: two of a preference and of a translation both ways.

        Args:
            example: the row.
            shown: whether their text is wanted, and not their lengths alone.

        Raises:
            RowFault: if it cannot be learnt from.
        """
        if isinstance(example, LabelledRow):
            return (self._labelled(example),)
        if isinstance(example, PreferenceRow):
            return (
                self._chat(example.prompt, example.chosen, "better", example.place, shown),
                self._chat(example.prompt, example.rejected, "worse", example.place, shown),
            )
        if isinstance(example, JudgedRow):
            title = "good" if example.good else "bad"
            return (self._chat(example.prompt, example.completion, title, example.place, shown),)
        if isinstance(example, TranslationRow):
            rows = example.conversations(self._section.direction)
            return tuple(self._learnt(row, "", shown) for row in rows)
        return (self._learnt(example, "", shown),)

    def _chat(
        self,
        prompt: tuple[Message, ...],
        answer: tuple[Message, ...],
        title: str,
        place: str,
        shown: bool,
    ) -> View:
        """Only the answer of a preference counts, not earlier ones in its prompt."""
        read = tuple(Message(turn.role, turn.content, 0.0) for turn in prompt)
        return self._learnt(ChatRow(read + answer, place), title, shown)

    def _learnt(self, row: ChatRow | TextRow, title: str, shown: bool) -> View:
        if self._tokenizer is None:
            return _untokenized(row, title)
        whole = RowEncoder(self._section, self._tokenizer, 1 << 30).rendered(row)[0]
        self.unknown.count(whole.ids)
        fitting = whole
        if len(whole.ids) > self._limit:
            fitting = RowEncoder(self._section, self._tokenizer, self._limit).rendered(row)[0]
        return View(
            title,
            self._spans(fitting.ids, fitting.targets) if shown else (),
            len(whole.ids),
            cut=fitting is not whole and isinstance(row, ChatRow),
        )

    def _spans(self, ids: list[int], targets: list[bool]) -> tuple[Span, ...]:
        """Neighbouring tokens of the same kind as one stretch of text."""
        assert self._tokenizer is not None
        spans: list[Span] = []
        start = 0
        for end in range(1, len(ids) + 1):
            if end == len(ids) or targets[end] != targets[start]:
                text = self._tokenizer.decode(ids[start:end], skip_special=False)
                spans.append(Span(text, targets[start]))
                start = end
        return tuple(spans)

    def _labelled(self, row: LabelledRow) -> View:
        spans = [Span(" | ".join(row.texts), False), Span(f" → {row.label}", True)]
        if self._tokenizer is None:
            return View("", tuple(spans), sum(map(len, row.texts)))
        # One special token before each text and one at the end.
        texts = [self._tokenizer.encode(text) for text in row.texts]
        for ids in texts:
            self.unknown.count(ids)
        length = sum(len(ids) + 1 for ids in texts) + 1
        return View("", tuple(spans), length, cut=length > self._limit)


def _untokenized(row: ChatRow | TextRow, title: str) -> View:
    """A row as turns, its length in characters."""
    if isinstance(row, TextRow):
        return View(title, (Span(row.text, True),), len(row.text))
    spans: list[Span] = []
    for turn in row.messages:
        learnt = turn.role == "assistant" and turn.weight > 0
        spans += [Span(f"{turn.role}: ", False), Span(f"{turn.content}\n", learnt)]
    if not any(span.learnt for span in spans):
        raise RowFault(
            "no message of the assistant is to be learnt (all have weight 0)",
            field="weight",
            kind="nothing to learn",
        )
    return View(title, tuple(spans), sum(len(turn.content) for turn in row.messages))
