"""Rows that begin alike are put together: all of them, once, and only where it saves tokens."""

from __future__ import annotations

import numpy as np
import torch

from chatgpt_cli.data.batch import IGNORE, Batch
from chatgpt_cli.data.packed import Conversations
from chatgpt_cli.data.shared_prompts import SharedPrompts, alike, share_prompts
from chatgpt_cli.tokenizer.chat import Rendered

_ROOM = 256


def _row(prompt: list[int], answer: list[int]) -> Rendered:
    return Rendered([*prompt, 3, *answer], [False] * (len(prompt) + 1) + [True] * len(answer))


def _of(*rows: Rendered) -> Conversations:
    return Conversations.of(rows, pad_id=0)


def _passage(number: int, length: int = 40) -> list[int]:
    return np.random.default_rng(number).integers(10, 1000, length).tolist()


def _learnt(batch: Batch) -> list[tuple[int, int, int]]:
    """Every target with its position and the token before it."""
    where = torch.nonzero(batch.labels != IGNORE, as_tuple=True)
    columns = batch.position_ids[where], batch.input_ids[where], batch.labels[where]
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def test_every_target_stands_where_it_would_alone() -> None:
    data = _of(
        *(
            _row([*_passage(passage), 1000 + question, 2000], [question, passage, 5])
            for question in range(4)
            for passage in range(6)
        )
    )
    shared = share_prompts(data, _ROOM)
    assert isinstance(shared, SharedPrompts)
    assert len(shared) == 6
    assert shared.lengths.tolist() == [40 + 4 * 6] * 6
    plain = data.rows([[row] for row in range(len(data))], _ROOM)
    assert _learnt(shared.rows([[0, 1], [2, 3], [4, 5]], _ROOM)) == _learnt(plain)


def test_different_answers_to_one_question_are_branches() -> None:
    question = _passage(1)
    data = _of(_row(question, [7, 8, 2]), _row(question, [7, 9, 2]))
    (group,) = alike(data, _ROOM)
    # The token that predicts an answer belongs to the branch: it has a target of its own.
    assert group.shared == len(question)
    assert sorted(group.rows) == [0, 1]


def test_a_group_fits_a_sequence() -> None:
    data = _of(*(_row([*_passage(1), number], [4] * 30) for number in range(500, 520)))
    groups = alike(data, _ROOM)
    assert max(group.length(data.lengths) for group in groups) <= _ROOM
    assert sorted(row for group in groups for row in group.rows) == list(range(20))


def test_what_a_passage_shares_is_not_given_up_for_a_system_prompt() -> None:
    system = _passage(0, 20)
    data = _of(
        *(
            _row([*system, *_passage(passage), 500 + question], [6, 2])
            for passage in (1, 2)
            for question in range(3)
        )
    )
    assert sorted(group.shared for group in alike(data, 1024)) == [60, 60]


def test_rows_with_little_in_common_stay_as_they_are() -> None:
    instruction = _passage(0, 8)
    data = _of(*(_row([*instruction, *_passage(row)], [6, 2]) for row in range(1, 9)))
    assert share_prompts(data, _ROOM) is data
