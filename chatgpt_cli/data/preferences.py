"""Rows with a better and a worse answer, read and encoded for preference training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from chatgpt_cli.config.schema import PreferSection, Rows
from chatgpt_cli.data.formats.conversations import ChatRow
from chatgpt_cli.data.formats.fields import RowFault
from chatgpt_cli.data.formats.preferences import PreferenceRow
from chatgpt_cli.data.packed import Conversations
from chatgpt_cli.data.pairs import HeldOutPairs, PairBatches, Pairs
from chatgpt_cli.data.problems import Problem, ProblemLog, left_out
from chatgpt_cli.data.rows import RowReport, read_preferences
from chatgpt_cli.data.split import divide_rows, text_of
from chatgpt_cli.errors import DataError, ModelError
from chatgpt_cli.tokenizer.chat import Message, Rendered, render
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class PreferenceData:
    """Both splits, and what the user should know about how they were made.

    `learnt` goes through the training pairs once, in order.
    """

    train: PairBatches
    learnt: HeldOutPairs
    validation: HeldOutPairs
    notes: list[str]


def load_pairs(
    section: PreferSection,
    tokenizer: Tokenizer,
    sequence_length: int,
    *,
    system_prompt: str | None,
    seed: int,
) -> PreferenceData:
    """Read, split, encode and truncate the rows of `prefer.data`.

    A pair's split depends on its question, so that no question is in both.

    Raises:
        DataError: rows that cannot be used, none to train on, or none to validate with.
    """
    rows, held_out, report = _split(section)
    encoder = _Encoder(tokenizer, sequence_length, system_prompt, report.problems)
    train, validation = encoder.encode(rows), encoder.encode(held_out)
    report.problems.check()
    if not len(train) or not len(validation):
        raise DataError("no pair is left to learn from or to validate with", place="prefer.data")
    batches = PairBatches(
        train, batch_size=section.batch_size, sequence_length=sequence_length, seed=seed
    )
    at_once = max(1, 4096 // sequence_length)
    notes = [f"Pairs: {len(train):,} to train on, {len(validation):,} to validate with"]
    if encoder.truncated:
        notes.append(
            f"{encoder.truncated:,} questions are too long for {sequence_length} tokens with "
            "their answers and were cut at the front"
        )
    notes += left_out(report.problems.counts)
    return PreferenceData(
        batches,
        HeldOutPairs(train, at_once, sequence_length),
        HeldOutPairs(validation, at_once, sequence_length),
        notes,
    )


def _split(
    section: PreferSection,
) -> tuple[list[PreferenceRow], list[PreferenceRow], RowReport[PreferenceRow]]:
    """As `divide_rows`, by what is asked."""

    def read(data: Sequence[Rows]) -> RowReport[PreferenceRow]:
        return read_preferences(data, on_error=section.on_error, setting="prefer.on_error")

    return divide_rows(section, "prefer", read, lambda row: text_of(ChatRow(row.prompt, row.place)))


class _Encoder:
    """Renders pairs and cuts questions that are too long, alike before both answers.

    Attributes:
        problems: pairs that cannot be learnt from are noted there.
    """

    def __init__(
        self, tokenizer: Tokenizer, length: int, system_prompt: str | None, problems: ProblemLog
    ) -> None:
        self._tokenizer = tokenizer
        self._length = length
        self._system = system_prompt
        self.truncated = 0
        self.problems = problems

    def encode(self, rows: Sequence[PreferenceRow]) -> Pairs:
        """All rows that can be used, end to end."""
        rendered = (part for row in rows for part in self._usable(row))
        conversations = Conversations.of(rendered, self._tokenizer.pad_id)
        return Pairs(conversations, np.zeros(len(conversations.ids), dtype=np.float32))

    def _usable(self, row: PreferenceRow) -> tuple[Rendered, ...]:
        try:
            return self._pair(row)
        except RowFault as fault:
            self.problems.add(Problem(row.place, fault.reason, fault.kind, fault.field))
            return ()

    def _pair(self, row: PreferenceRow) -> tuple[Rendered, Rendered]:
        prompt = [replace(message, weight=0.0) for message in row.prompt]
        if self._system and prompt[0].role != "system":
            prompt.insert(0, Message("system", self._system))
        answers = (row.chosen, row.rejected)
        try:
            both = [render([*prompt, *answer], self._tokenizer) for answer in answers]
        except ModelError as error:
            raise RowFault(error.fact, kind="not for this chat template") from error
        asked = [one.targets.index(True) for one in both]
        room = self._length - max(len(one.ids) - n for one, n in zip(both, asked, strict=True))
        if room < 1:
            raise RowFault(
                f"an answer alone is longer than a sequence of {self._length:,} tokens; raise "
                "prefer.sequence_length, or shorten it",
                kind="too long",
            )
        if max(asked) > room:
            self.truncated += 1
            both = [_cut(one, n, room) for one, n in zip(both, asked, strict=True)]
        return both[0], both[1]


def _cut(rendered: Rendered, asked: int, room: int) -> Rendered:
    """Keep the first token, and of the `asked` tokens before the answer the last."""
    head = rendered.ids[: int(room > 1)]
    before = [*head, *rendered.ids[asked - room + len(head) : asked]]
    answer = rendered.targets[asked:]
    return Rendered([*before, *rendered.ids[asked:]], [*[False] * len(before), *answer])
