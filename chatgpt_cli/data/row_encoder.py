"""Rows as the tokens that a model sees, with those it learns, cut where they are too long."""

from __future__ import annotations

from dataclasses import replace

from chatgpt_cli.config.schema import FinetuneSection
from chatgpt_cli.data.formats.conversations import ChatRow, TextRow
from chatgpt_cli.data.formats.fields import RowFault
from chatgpt_cli.data.problems import Problem, ProblemLog
from chatgpt_cli.errors import ModelError
from chatgpt_cli.tokenizer.chat import Message, Rendered, render
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

Learnable = ChatRow | TextRow


class RowEncoder:
    """Rows as tokens, those that are too long cut.

    Attributes:
        truncated: how many were cut so far.
        problems: those that cannot be learnt from.
    """

    def __init__(self, section: FinetuneSection, tokenizer: Tokenizer, length: int) -> None:
        """Args:
        section: what a conversation begins with, and what to do with faults.
        tokenizer: encodes.
        length: tokens of a sequence at most.
        """
        self._system = section.system_prompt
        self._tokenizer = tokenizer
        self.length = length
        self.truncated = 0
        self.problems = ProblemLog(section.on_error, "finetune.on_error")

    def usable(self, row: Learnable) -> list[Rendered]:
        """As `rendered`; nothing of a row that cannot be used, which is noted."""
        try:
            return self.rendered(row)
        except RowFault as fault:
            self.problems.add(Problem(row.place, fault.reason, fault.kind, fault.field))
            return []

    def rendered(self, row: Learnable) -> list[Rendered]:
        """A row as tokens; a long plain text as several pieces.

        Raises:
            RowFault: if nothing of it would be learnt, or the model's template refuses it.
        """
        if isinstance(row, TextRow):
            return self._pieces(row.text)
        try:
            return [self._encoded(row)]
        except ModelError as error:
            raise RowFault(error.fact, kind="not for this chat template") from error

    def _pieces(self, text: str) -> list[Rendered]:
        """[BOS] text [EOS], as pretraining shows it, cut where a sequence is full."""
        bos, eos = self._tokenizer.bos_id, self._tokenizer.eos_id
        ids = [bos, *self._tokenizer.encode(text), eos]
        # A piece's first token is the last of the piece before: it is read, not learnt.
        starts = range(0, len(ids) - 1, self.length - 1)
        pieces = [ids[start : start + self.length] for start in starts]
        return [Rendered(piece, [False, *[True] * (len(piece) - 1)]) for piece in pieces]

    def _encoded(self, row: ChatRow) -> Rendered:
        messages = list(row.messages)
        if self._system and messages[0].role != "system":
            messages.insert(0, Message("system", self._system))
        rendered = render(messages, self._tokenizer)
        if not any(rendered.targets):
            raise RowFault(
                "no message of the assistant is to be learnt (all have weight 0)",
                field="weight",
                kind="nothing to learn",
            )
        if len(rendered.ids) > self.length:
            self.truncated += 1
            rendered = self._cut(messages)
        return rendered

    def _cut(self, messages: list[Message]) -> Rendered:
        """Up to the last answer to be learnt, or an earlier one where that is too long.

        The answer and its end-of-turn token stay whole: a model that learns from
        answers without an end never stops.

        Raises:
            RowFault: if no answer fits.
        """
        learnt = [n for n, m in enumerate(messages) if m.role == "assistant" and m.weight > 0]
        # Asked first: to leave out turn by turn takes a rendering for each.
        fitting = (n for n in reversed(learnt) if self._fits(self._last(messages[: n + 1], 0)))
        return self._cut_before(messages[: next(fitting, learnt[0]) + 1])

    def _fits(self, rendered: Rendered) -> bool:
        return len(rendered.ids) <= self.length

    def _last(self, messages: list[Message], characters: int) -> Rendered:
        """The last answer, and before it only the end of the question, of so many characters."""
        head = [m for m in messages[:1] if m.role == "system"]
        question, answer = messages[-2:]
        kept = question.content[len(question.content) - characters :]
        return render([*head, replace(question, content=kept), answer], self._tokenizer)

    def _cut_before(self, messages: list[Message]) -> Rendered:
        """Leave out the oldest turns, then the beginning of the last question.

        Raises:
            RowFault: if not even the last answer fits.
        """
        rendered = render(messages, self._tokenizer)
        if self._fits(rendered):
            return rendered
        head = [m for m in messages[:1] if m.role == "system"]
        turns = messages[len(head) :]
        while len(turns) > 2:
            turns = turns[1:]
            if turns[0].role != "user":
                continue
            rendered = render([*head, *turns], self._tokenizer)
            if self._fits(rendered):
                return rendered
        return self._cut_question(messages)

    def _cut_question(self, messages: list[Message]) -> Rendered:
        """As much of the end of the question, the message before the last, as fits.

        Raises:
            RowFault: if not even the answer fits.
        """
        shortest = self._last(messages, 0)
        if not self._fits(shortest):
            raise RowFault(
                f"the answer alone has {sum(shortest.targets):,} tokens"
                + (", beside a system message" if messages[0].role == "system" else "")
                + f", and a sequence only {self.length:,}. Shorten it, or raise "
                "finetune.sequence_length (and model.context_length before pretraining)",
                field="messages",
                kind="answer too long",
            )
        fits, too_long = 0, len(messages[-2].content) + 1
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if self._fits(self._last(messages, middle)):
                fits = middle
            else:
                too_long = middle
        return self._last(messages, fits)
