"""Supervised rows in the shapes people bring them, told apart by their fields.

A format is one function: fields in, messages out, or None if the row is not of it.
What is wrong inside a row of the format is a ValueError with a sentence for the user.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from chatgpt_cli.tokenizer.chat import Message, Role

Fields = dict[str, Any]
_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}


def messages(row: Fields) -> list[Message] | None:
    """OpenAI: {"messages": [{"role", "content"}]}, also under "conversation(s)"."""
    turns = _list(row, "messages", "conversations", "conversation")
    if turns is None or not all(isinstance(turn, dict) and "role" in turn for turn in turns):
        return None
    return _system(row) + [_turn(turn, "role", "content") for turn in turns]


def sharegpt(row: Fields) -> list[Message] | None:
    """ShareGPT: {"conversations": [{"from", "value"}]}, with "system" beside it."""
    turns = _list(row, "conversations", "conversation", "messages")
    if turns is None or not all(isinstance(turn, dict) and "from" in turn for turn in turns):
        return None
    return _system(row) + [_turn(turn, "from", "value") for turn in turns]


def alpaca(row: Fields) -> list[Message] | None:
    """Alpaca: {"instruction", "input", "output"}, with "history" pairs and "system"."""
    if "instruction" not in row:
        return None
    answer = _first(row, "output", "response", "answer", "completion")
    if answer is None:
        raise ValueError("the row has an instruction but no output")
    past = []
    for pair in row.get("history") or []:
        if not (isinstance(pair, list) and len(pair) == 2):
            raise ValueError("history must be a list of pairs [question, answer]")
        past += [
            Message("user", _text(pair[0], "history")),
            Message("assistant", _text(pair[1], "history")),
        ]
    question = _text(row["instruction"], "instruction")
    if row.get("input"):
        question += "\n" + _text(row["input"], "input")
    return [*_system(row), *past, Message("user", question), Message("assistant", answer)]


def question_about_text(row: Fields) -> list[Message] | None:
    """SQuAD in flat form: {"context", "question", "answers"}; the first answer is learnt."""
    if "context" not in row or "question" not in row:
        return None
    answers = row.get("answers", row.get("answer"))
    if isinstance(answers, dict):
        answers = answers.get("text")
    if isinstance(answers, list):
        answers = answers[0] if answers else ""
    context, question = _text(row["context"], "context"), _text(row["question"], "question")
    return [
        Message("user", f"{context}\n{question}"),
        Message("assistant", _text(answers, "answers")),
    ]


def prompt_and_completion(row: Fields) -> list[Message] | None:
    """{"prompt", "completion"} and the same by other names."""
    question = _first(row, "prompt", "question", "query")
    answer = _first(row, "completion", "response", "answer", "output")
    if question is None or answer is None:
        return None
    return [*_system(row), Message("user", question), Message("assistant", answer)]


def translation(row: Fields) -> list[Message] | None:
    """{"src", "tgt"} or {"source", "target"}: translate the one into the other."""
    source, target = _first(row, "src", "source"), _first(row, "tgt", "target")
    if source is None or target is None:
        return None
    chinese = any("\u4e00" <= character <= "\u9fff" for character in target)
    prompt = "Translate into Chinese: " if chinese else "Translate into English: "
    return [Message("user", prompt + source), Message("assistant", target)]


FORMATS: tuple[Callable[[Fields], list[Message] | None], ...] = (
    messages,
    sharegpt,
    alpaca,
    question_about_text,
    prompt_and_completion,
    translation,
)


def convert(row: Fields) -> tuple[str, list[Message]]:
    """The name of a row's format, and its conversation.

    Raises:
        ValueError: if no format fits, or the conversation has a fault: a sentence for
            the user, naming the field.
    """
    for read in FORMATS:
        found = read(row)
        if found is not None:
            _check(found)
            return read.__name__, found
    names = ", ".join(str(name) for name in list(row)[:8]) or "none"
    known = ["messages", "conversations", "instruction", "prompt", "question", "src"]
    near = [match for name in row for match in difflib.get_close_matches(str(name), known, n=1)]
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"no known format has these fields ({names}){hint}. Known are messages, ShareGPT "
        "conversations, Alpaca (instruction, output), prompt and completion, context and "
        "question and answers, src and tgt"
    )


def _check(turns: list[Message]) -> None:
    """Roles in an order that can be learnt, and nothing empty."""
    speakers = [turn for turn in turns if turn.role != "system"]
    if any(turn.role == "system" for turn in turns[1:]):
        raise ValueError("a system message stands inside the conversation; it must come first")
    if not speakers:
        raise ValueError("the conversation has no messages")
    if not any(turn.role == "assistant" for turn in speakers):
        raise ValueError("there is no assistant message to learn from")
    if speakers[0].role == "assistant":
        raise ValueError("the conversation begins with the assistant; a user must speak first")
    for number, (one, following) in enumerate(pairwise(turns), start=1):
        if one.role == following.role != "tool":
            raise ValueError(f"messages {number} and {number + 1} are both by the {one.role}")
    if speakers[-1].role != "assistant":
        raise ValueError(f"the last message is by the {speakers[-1].role}; nothing answers it")
    for number, turn in enumerate(turns, start=1):
        if not turn.content.strip():
            raise ValueError(f"message {number}, by the {turn.role}, is empty")


def _list(row: Fields, *names: str) -> list[Any] | None:
    for name in names:
        value = row.get(name)
        if isinstance(value, str) and value.startswith("["):
            # CSV and TSV can hold a conversation only as JSON text.
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{name} holds a list that is not JSON ({error})") from error
        if isinstance(value, list):
            return value
        if value is not None:
            raise ValueError(f"{name} must be a list of messages")
    return None


def _turn(turn: Fields, role: str, content: str) -> Message:
    name = str(turn[role]).lower()
    if name not in _ROLES:
        near = difflib.get_close_matches(name, _ROLES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(_ROLES)}"
        raise ValueError(f"{role} is {turn[role]!r}{hint}")
    value = turn.get(content)
    if value is None and turn.get("tool_calls"):
        value = json.dumps(turn["tool_calls"], ensure_ascii=False)
    weight = turn.get("weight", 1)
    if not isinstance(weight, int | float) or weight not in (0, 1):
        raise ValueError(f"weight is {weight!r}; it must be 0 (read only) or 1 (learnt)")
    return Message(_ROLES[name], _text(value, content), float(weight))


def _system(row: Fields) -> list[Message]:
    value = row.get("system")
    return [Message("system", _text(value, "system"))] if value else []


def _first(row: Fields, *names: str) -> str | None:
    for name in names:
        if row.get(name) is not None:
            return _text(row[name], name)
    return None


def _text(value: object, field: str) -> str:
    """A string, or OpenAI's list of text parts joined."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        if all(part.get("type") == "text" for part in value):
            return "".join(str(part.get("text", "")) for part in value)
        raise ValueError(f"{field} holds parts that are not text; only text can be learnt")
    if value is None:
        raise ValueError(f"{field} is missing or null")
    raise ValueError(f"{field} must be text, it holds {type(value).__name__}")
