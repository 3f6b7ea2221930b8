"""Rows that say which answer is better (pairs), or whether an answer is good (KTO)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from chatgpt_cli.data.formats.fields import (
    Row,
    RowFault,
    as_flag,
    as_text,
    from_json_text,
    is_flag,
)
from chatgpt_cli.data.formats.turns import (
    check_order,
    conversation,
    one_turn,
    system,
    turns_of,
    with_tools,
)
from chatgpt_cli.tokenizer.chat import Message

_CHOSEN = ("chosen", "chosen_response", "preferred_output", "preferred", "answer_chosen")
_REJECTED = (
    "rejected",
    "rejected_response",
    "non_preferred_output",
    "dispreferred",
    "answer_rejected",
)
_FLAGS = ("label", "kto_tag", "desirable")
# Anthropic's transcripts (hh-rlhf).
_SPEAKER = re.compile(r"\n\n(Human|Assistant): ?")


@dataclass(frozen=True)
class PreferenceRow:
    """Two answers to the same conversation, the first of them better.

    `prompt` ends with a user (or a tool); `chosen` and `rejected` begin with the assistant.
    """

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    place: str


@dataclass(frozen=True)
class JudgedRow:
    """An answer that is good or bad by itself (KTO)."""

    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    good: bool
    place: str


def pair(row: Row, place: str) -> PreferenceRow | None:
    """A row with a better and a worse answer, or None if it has none."""
    if row.has(*_CHOSEN) is None and row.has(*_REJECTED) is None:
        return _ranked(row, place)
    chosen, rejected = row.take(*_CHOSEN), row.take(*_REJECTED)
    if chosen is None or rejected is None:
        there, absent = ("chosen", "rejected") if rejected is None else ("rejected", "chosen")
        raise RowFault(
            f"the row has {there}, but {absent} is missing or null",
            field=absent,
            kind="field is missing",
        )
    prompt = _prompt(row)
    if prompt is None:
        return _finished(*_without_prompt(chosen, rejected), place)
    better, worse = _answer(prompt, *chosen), _answer(prompt, *rejected)
    return _finished(prompt, better, worse, place)


def _ranked(row: Row, place: str) -> PreferenceRow | None:
    """Alpaca with two outputs, the better one first."""
    output = row.value("output")
    if not row.has_all("instruction", "output") or not isinstance(output, list):
        return None
    row.take("output")
    if len(output) != 2:
        raise RowFault(
            f"output holds {len(output)} answers; it must be text or two, the better one first",
            field="output",
            kind="wrong type",
        )
    prompt = _prompt(row) or []
    better, worse = (one_turn(value, "output", "assistant") for value in output)
    return _finished(prompt, better, worse, place)


def judged(row: Row, place: str) -> JudgedRow | None:
    """A conversation whose last answer is labelled good or bad, or None."""
    flag = row.has(*_FLAGS)
    if flag is None:
        return None
    answered = row.has("completion", "response", "output") and row.has("prompt", "instruction")
    talked = row.has("messages", "conversations", "conversation")
    if not answered and not talked:
        return None
    value = row.value(flag)
    if talked and not answered:
        if flag == "label" and not is_flag(value):
            # A column of another meaning.
            return None
        spoken = conversation(row) or []
        ends = [number for number, turn in enumerate(spoken) if turn.role != "assistant"]
        split = ends[-1] + 1 if ends else 0
        prompt, completion = spoken[:split], spoken[split:]
    else:
        prompt = _prompt(row) or []
        name, answer = row.take("completion", "response", "output") or ("completion", None)
        completion = _answer(prompt, name, answer)
    row.take(flag)
    good = as_flag(value, flag)
    _check_prompt(prompt)
    _check_answer([*prompt, *completion], completion, "completion")
    return JudgedRow(tuple(prompt), tuple(completion), good, place)


def _prompt(row: Row) -> list[Message] | None:
    """What is to be answered; None if only the answers hold it."""
    given = row.take("input") if isinstance(row.value("input"), dict) else None
    if given is not None:
        # OpenAI's preference files: {"input": {"messages": [...]}}.
        return conversation(Row(given[1]))
    if row.has("messages", "conversations", "conversation"):
        return conversation(row)
    found = row.take("prompt", "question", "instruction", "query")
    if found is None:
        return None
    name, value = found
    turns = one_turn(value, name, "user")
    more = row.text("input") if name == "instruction" else None
    if more and more.strip():
        turns = [*turns[:-1], Message("user", f"{turns[-1].content}\n{more}")]
    before = system(row) if turns[:1] and turns[0].role != "system" else []
    return with_tools(row, [*before, *turns])


def _answer(prompt: list[Message], field: str, value: Any) -> list[Message]:
    """An answer's turns, without the prompt where the row repeats it in front."""
    answer = one_turn(value, field, "assistant")
    spoken = [turn for turn in prompt if turn.role != "system"]
    for repeated in (prompt, spoken):
        same = [(turn.role, turn.content) for turn in answer[: len(repeated)]]
        if same == [(turn.role, turn.content) for turn in repeated] and repeated:
            return answer[len(repeated) :]
    return answer


def _without_prompt(
    chosen: tuple[str, Any], rejected: tuple[str, Any]
) -> tuple[list[Message], list[Message], list[Message]]:
    """The prompt is what both conversations have in common at their beginning."""
    one, two = (_whole(*chosen), _whole(*rejected))
    common = 0
    for left, right in zip(one, two, strict=False):
        if (left.role, left.content) != (right.role, right.content):
            break
        common += 1
    if common == len(one) == len(two) and common:
        # Alike: what was meant as the prompt ends before the last answer.
        common = max(number for number, turn in enumerate(one) if turn.role != "assistant") + 1
    while common and one[common - 1].role == "assistant":
        common -= 1
    if not common:
        raise RowFault(
            "there is no prompt, and chosen and rejected do not begin with the same question",
            field="prompt",
            kind="field is missing",
        )
    return one[:common], one[common:], two[common:]


def _whole(field: str, value: Any) -> list[Message]:
    """A whole conversation: turns, or a transcript of Human and Assistant."""
    value = from_json_text(value, field)
    if isinstance(value, list):
        return turns_of(field, value)
    text = as_text(value, field)
    parts = _SPEAKER.split("\n\n" + text.lstrip("\n"))
    if len(parts) < 3 or parts[0].strip():
        raise RowFault(
            f"there is no prompt beside {field}", field="prompt", kind="field is missing"
        )
    return [
        Message("user" if speaker == "Human" else "assistant", said.strip())
        for speaker, said in zip(parts[1::2], parts[2::2], strict=True)
    ]


def _finished(
    prompt: list[Message], chosen: list[Message], rejected: list[Message], place: str
) -> PreferenceRow:
    _check_prompt(prompt)
    _check_answer([*prompt, *chosen], chosen, "chosen")
    _check_answer([*prompt, *rejected], rejected, "rejected")
    if [turn.content.strip() for turn in chosen] == [turn.content.strip() for turn in rejected]:
        raise RowFault(
            "chosen and rejected are the same, so there is nothing to prefer",
            field="rejected",
            kind="chosen equals rejected",
        )
    return PreferenceRow(tuple(prompt), tuple(chosen), tuple(rejected), place)


def _check_prompt(prompt: list[Message]) -> None:
    if not prompt or not any(turn.content.strip() for turn in prompt):
        raise RowFault("the prompt is empty", field="prompt", kind="empty message")
    check_order(prompt, "prompt")
    if prompt[-1].role == "assistant":
        raise RowFault(
            "the prompt ends with an answer; a user must speak last",
            field="prompt",
            kind="roles out of order",
        )
    if prompt[-1].role == "system":
        raise RowFault("the prompt has no user", field="prompt", kind="roles out of order")


def _check_answer(whole: list[Message], answer: list[Message], field: str) -> None:
    if not answer or not any(turn.content.strip() for turn in answer):
        raise RowFault(f"{field} is empty", field=field, kind="empty message")
    if answer[0].role != "assistant" or answer[-1].role != "assistant":
        raise RowFault(
            f"{field} must begin and end with the assistant", field=field, kind="roles out of order"
        )
    check_order(whole, field)
