"""Conversations turn by turn: OpenAI's and ShareGPT's spelling, tools, and what is in order."""

from __future__ import annotations

import difflib
import json
from itertools import pairwise
from typing import Any

from chatgpt_cli.data.formats.fields import (
    Row,
    RowFault,
    as_text,
    from_json_text,
    listed,
    missing,
    named,
    short,
)
from chatgpt_cli.tokenizer.chat import Message, Role

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
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
_TURN_LISTS = ("messages", "conversations", "conversation")


def conversation(row: Row) -> list[Message] | None:
    """The turns of a row that has some, with its `system` and `tools`; unchecked."""
    if row.has(*_TURN_LISTS) is None:
        return None
    return with_tools(row, [*system(row), *turns_of(*needed(row))])


def needed(row: Row) -> tuple[str, list[Any]]:
    """The field with the turns, and these. Raises RowFault if the row has none."""
    found = row.items(*_TURN_LISTS)
    if found is None:
        raise missing(_TURN_LISTS[0])
    return found


def system(row: Row) -> list[Message]:
    """The system message that stands beside the turns."""
    found = row.text("system", "system_prompt")
    return [Message("system", found)] if found and found.strip() else []


def turns_of(field: str, items: list[Any]) -> list[Message]:
    """OpenAI's {"role", "content"} or ShareGPT's {"from", "value"}, neighbours merged.

    An assistant that says something and then calls a function (ShareGPT writes two
    turns) makes one message of both.
    """
    messages: list[Message] = []
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise RowFault(
                f"message {number} of {field} must be an object, it is {named(item)}",
                field=field,
                kind="wrong type",
            )
        message, is_call = _turn(item, number, field)
        if is_call and messages and messages[-1].role == "assistant":
            before = messages.pop()
            message = Message("assistant", f"{before.content}\n{message.content}", message.weight)
        messages.append(message)
    return messages


def one_turn(value: Any, field: str, role: Role) -> list[Message]:
    """Text, a turn or a list of turns, as `chosen` and `prompt` hold them."""
    value = from_json_text(value, field) if _looks_like_turns(value) else value
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list) and (not value or not _are_parts(value)):
        return turns_of(field, value)
    return [Message(role, as_text(value, field))]


def _looks_like_turns(value: Any) -> bool:
    """Text that is JSON of turns, not an answer that happens to be JSON."""
    start = value.lstrip()[:40] if isinstance(value, str) else ""
    return start.startswith(("[{", "{")) and any(f'"{key}"' in start for key in ("role", "from"))


def _are_parts(value: list[Any]) -> bool:
    return all(isinstance(part, dict) and "type" in part and "role" not in part for part in value)


def _turn(turn: dict[str, Any], number: int, field: str) -> tuple[Message, bool]:
    """A message, and whether it is nothing but a function call."""
    speaker, content = ("role", "content") if "role" in turn else ("from", "value")
    if speaker not in turn:
        raise RowFault(
            f"message {number} of {field} has no role (its fields are {listed(turn)})",
            field=f"{field}[{number - 1}].role",
            kind="role is missing",
        )
    place = f"{field}[{number - 1}]"
    name = str(turn[speaker]).strip().lower()
    if name not in _ROLES:
        near = difflib.get_close_matches(name, _ROLES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(_ROLES)}"
        raise RowFault(
            f"{speaker} is {short(turn[speaker])} in message {number}{hint}",
            field=f"{place}.{speaker}",
            kind="unknown role",
        )
    weight = turn.get("weight")
    if weight is None:
        weight = 1
    if not isinstance(weight, int | float) or weight not in (0, 1):
        raise RowFault(
            f"weight is {short(weight)} in message {number}; it must be 0 (read) or 1 (learnt)",
            field=f"{place}.weight",
            kind="weight is not 0 or 1",
        )
    calls = _calls(turn, f"{place}.tool_calls")
    if name == "function_call":
        return Message("assistant", _call(turn.get(content), f"{place}.{content}"), weight), True
    said = turn.get(content)
    if said is None and not calls:
        raise missing(f"{place}.{content}")
    parts = [as_text(said, f"{place}.{content}")] if said else []
    return Message(_ROLES[name], "\n".join([*parts, *calls]), float(weight)), not parts


def _calls(turn: dict[str, Any], field: str) -> list[str]:
    """OpenAI's `tool_calls` (or the older `function_call`) as text the model writes."""
    calls = turn.get("tool_calls") or []
    if turn.get("function_call") is not None:
        calls = [turn["function_call"]]
    if not isinstance(calls, list):
        raise RowFault(f"{field} must be a list of calls", field=field, kind="wrong type")
    return [
        _call(call.get("function", call) if isinstance(call, dict) else call, field)
        for call in calls
    ]


def _call(value: Any, field: str) -> str:
    """A function call in the form of Hermes and Qwen, which servers know how to read."""
    if isinstance(value, str):
        written = value
        try:
            value = json.loads(written)
        except (ValueError, RecursionError):
            # A call in a language of its own is learnt as it is.
            return written
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise RowFault(
            f"{field} must hold the name and the arguments of a function",
            field=field,
            kind="broken tool call",
        )
    arguments = value.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            raise RowFault(
                f"the arguments of {value['name']} are not JSON",
                field=field,
                kind="broken tool call",
            ) from None
    body = json.dumps({"name": value["name"], "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


def with_tools(row: Row, messages: list[Message]) -> list[Message]:
    """The descriptions of the row's `tools`, put at the end of the system message.

    Without them a model would learn to call functions that it was never told about.
    """
    found = row.take("tools", "functions")
    if found is None:
        return messages
    tools = from_json_text(found[1], found[0])
    if not isinstance(tools, list):
        raise RowFault(f"{found[0]} must be a list of functions", field=found[0], kind="wrong type")
    if not tools:
        return messages
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    told = (
        f"You may call these functions:\n<tools>\n{lines}\n</tools>\nTo call one, answer with "
        '<tool_call>{"name": …, "arguments": …}</tool_call>.'
    )
    if messages and messages[0].role == "system":
        return [Message("system", f"{messages[0].content}\n\n{told}"), *messages[1:]]
    return [Message("system", told), *messages]


def check(messages: list[Message], field: str | None = None) -> None:
    """Roles in an order that can be learnt, an answer at the end, and nothing empty.

    Raises:
        RowFault: what is wrong with them.
    """
    check_order(messages, field)
    speakers = [turn for turn in messages if turn.role != "system"]
    if not any(turn.role == "assistant" for turn in speakers):
        raise _disorder("there is no assistant message to learn from", field)
    if speakers[-1].role != "assistant":
        raise _disorder(
            f"the last message is by the {speakers[-1].role}; nothing answers it", field
        )


def check_order(messages: list[Message], field: str | None = None) -> None:
    """As `check`, whoever speaks last.

    Raises:
        RowFault: what is wrong with them.
    """
    speakers = [turn for turn in messages if turn.role != "system"]
    if any(turn.role == "system" for turn in messages[1:]):
        raise _disorder(
            "a system message stands inside the conversation; it must come first", field
        )
    if not speakers:
        raise _disorder("the conversation has no messages", field)
    if speakers[0].role == "assistant":
        raise _disorder(
            "the conversation begins with the assistant; a user must speak first", field
        )
    if speakers[0].role == "tool":
        raise _disorder(
            "the conversation begins with a tool's answer; a user must speak first", field
        )
    for number, (one, following) in enumerate(pairwise(messages), start=1):
        if one.role == following.role != "tool":
            raise _disorder(f"messages {number} and {number + 1} are both by the {one.role}", field)
    for number, turn in enumerate(messages, start=1):
        if not turn.content.strip():
            raise RowFault(
                f"message {number}, by the {turn.role}, is empty", field=field, kind="empty message"
            )


def _disorder(reason: str, field: str | None) -> RowFault:
    return RowFault(reason, field=field, kind="roles out of order")
