"""Questions whose answers can be checked, as batches for reinforcement."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chatgpt_cli.data.batch import IGNORE, Batch
from chatgpt_cli.data.formats.conversations import ChatRow
from chatgpt_cli.data.packed import Conversations
from chatgpt_cli.data.packing import ShuffledBins
from chatgpt_cli.tokenizer.chat import Message, Rendered, render
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

# Held-out questions that an evaluation asks at most, and at one time.
_ASKED, _ASKED_AT_ONCE = 200, 64


@dataclass(frozen=True)
class Question:
    """A conversation up to where the assistant answers, and the right answers."""

    ids: tuple[int, ...]
    references: tuple[str, ...]
    # The row as it stands in its file, and where that is.
    row: dict[str, Any]
    place: str


def as_question(row: ChatRow, tokenizer: Tokenizer, system_prompt: str | None) -> Question:
    """The last message of a row is the right answer; `references` may hold others."""
    messages = list(row.messages[:-1])
    if system_prompt and messages[0].role != "system":
        messages.insert(0, Message("system", system_prompt))
    answer = row.messages[-1].content.strip()
    others = row.extra.get("references")
    more = [str(one).strip() for one in others] if isinstance(others, list) else []
    spoken = [{"role": one.role, "content": one.content} for one in row.messages]
    return Question(
        tuple(render(messages, tokenizer, add_generation_prompt=True).ids),
        tuple(dict.fromkeys((answer, *more))),
        {**row.extra, "messages": spoken},
        row.place,
    )


@dataclass(frozen=True)
class QuestionBatch(Batch):
    """Questions without their answers: no labels. `numbers` say which they are."""

    numbers: Tensor  # (batch,) int64


@dataclass(frozen=True)
class AnswerBatch(Batch):
    """Answers that the model wrote, several in a row; labels are their tokens."""

    # How much better than the others to its question an answer is, at each of its labels.
    advantage: Tensor  # (batch, time) float32
    # The log-probability of each label when it was written, and by the model before.
    old: Tensor  # (batch, time) float32
    reference: Tensor  # (batch, time) float32
    # What the answer earned, at each of its tokens.
    reward: Tensor  # (batch, time) float32


def question_batch(questions: Sequence[Question], numbers: Sequence[int], pad: int) -> Batch:
    """Some questions, padded to the longest."""
    chosen = [questions[number].ids for number in numbers]
    longest = max(len(ids) for ids in chosen)
    ids = torch.tensor([[*one, *[pad] * (longest - len(one))] for one in chosen])
    real = torch.tensor([[at < len(one) for at in range(longest)] for one in chosen])
    positions = torch.arange(longest).expand(ids.shape).clone()
    labels = torch.full_like(ids, IGNORE)
    return QuestionBatch(ids, labels, real.long() * 2, positions, torch.tensor(list(numbers)))


class QuestionBatches:
    """Training batches (a `BatchSource`): questions in another order in each epoch."""

    def __init__(
        self,
        questions: Sequence[Question],
        *,
        batch_size: int,
        sequence_length: int,
        pad_id: int,
        seed: int,
    ) -> None:
        self.batch_size = batch_size
        self.sequence_length = sequence_length
        self.questions = questions
        self._pad_id = pad_id
        self._seed = seed
        ones = np.ones(len(questions), dtype=np.int64)
        self._order = ShuffledBins(ones, 1, packing=False, seed=seed)

    @property
    def batches_per_epoch(self) -> float:
        """How many batches ask every question once."""
        return len(self.questions) / self.batch_size

    def fingerprint(self) -> dict[str, object]:
        """What the order of questions depends on."""
        digest = hashlib.sha256()
        for one in self.questions:
            row = json.dumps([one.ids, one.references, one.row], sort_keys=True, default=str)
            digest.update(row.encode("utf-8", errors="surrogatepass"))
        return {
            "batch_size": self.batch_size,
            "sequence_length": self.sequence_length,
            "seed": self._seed,
            "questions": len(self.questions),
            "data": digest.hexdigest(),
        }

    def batch(self, index: int) -> Batch:
        """The questions of step `index`."""
        first = index * self.batch_size
        numbers = [self._order[first + at][0] for at in range(self.batch_size)]
        return question_batch(self.questions, numbers, self._pad_id)


@dataclass(frozen=True)
class HeldOutQuestions:
    """Evenly spread questions that training does not ask, in a fixed order."""

    questions: Sequence[Question]
    pad_id: int

    def __iter__(self) -> Iterator[Batch]:
        wanted = min(len(self.questions), _ASKED)
        chosen = np.linspace(0, len(self.questions), num=wanted, endpoint=False).astype(int)
        for first in range(0, len(chosen), _ASKED_AT_ONCE):
            numbers = [int(one) for one in chosen[first : first + _ASKED_AT_ONCE]]
            yield question_batch(self.questions, numbers, self.pad_id)


def as_conversations(
    questions: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad_id: int
) -> Conversations:
    """Questions with written answers, of which every token is a target."""
    rendered = (
        Rendered([*question, *answer], [*[False] * len(question), *[True] * len(answer)])
        for question, answer in zip(questions, answers, strict=True)
    )
    return Conversations.of(rendered, pad_id)
