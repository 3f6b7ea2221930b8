"""Rows to learn an answer from, in the shapes people bring them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chatgpt_cli.data.formats import turns
from chatgpt_cli.data.formats.fields import Row, RowFault, as_text, from_json_text, missing
from chatgpt_cli.data.formats.languages import is_chinese
from chatgpt_cli.tokenizer.chat import Message

# What is learnt where a text holds no answer to the question (SQuAD 2.0).
NO_ANSWER = "No answer."
NO_ANSWER_ZH = "没有答案。"

_QUESTION = ("prompt", "question", "query")
_ANSWER = ("completion", "response", "answer", "output")


@dataclass(frozen=True)
class ChatRow:
    """One conversation, and where it stands ("file:line")."""

    messages: tuple[Message, ...]
    place: str
    task: str | None = None
    # The fields that are not part of the conversation, such as `references`.
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TextRow:
    """A text that is learnt from its first word to its end, without turns."""

    text: str
    place: str


def messages(row: Row, place: str) -> ChatRow | None:
    """OpenAI: {"messages": [{"role", "content", "tool_calls", "weight"}]}."""
    return _by_turns(row, place, "role")


def sharegpt(row: Row, place: str) -> ChatRow | None:
    """ShareGPT: {"conversations": [{"from", "value"}]}, with "system" and "tools" beside it."""
    return _by_turns(row, place, "from")


def _by_turns(row: Row, place: str, speaker: str) -> ChatRow | None:
    if row.has("messages", "conversations", "conversation") is None:
        return None
    name, items = turns.needed(row)
    first = items[0] if items and isinstance(items[0], dict) else {}
    if (speaker == "from") != ("from" in first and "role" not in first):
        return None
    whole = turns.conversation(row) or []
    turns.check(whole, name)
    return _chat(row, place, whole)


def alpaca(row: Row, place: str) -> ChatRow | None:
    """Alpaca: {"instruction", "input", "output"}, with "history" pairs and "system"."""
    if not row.has("instruction"):
        return None
    question = row.needed_text("instruction")
    answer = row.text("output", "response", "answer", "completion")
    if answer is None:
        raise RowFault(
            "the row has an instruction but no output", field="output", kind="field is missing"
        )
    more = row.text("input", "context")
    if more and more.strip():
        question += "\n" + more
    whole = [
        *turns.system(row),
        *_history(row),
        Message("user", question),
        Message("assistant", answer),
    ]
    return _checked(row, place, whole, "instruction", "output")


def _history(row: Row) -> list[Message]:
    """Earlier questions and answers, [[question, answer], …]."""
    found = row.take("history")
    pairs = [] if found is None else from_json_text(found[1], "history") or []
    past = []
    for pair in pairs if isinstance(pairs, list) else [pairs]:
        if not (isinstance(pair, list) and len(pair) == 2):
            raise RowFault(
                "history must be a list of pairs [question, answer]",
                field="history",
                kind="wrong type",
            )
        past += [
            Message("user", as_text(pair[0], "history")),
            Message("assistant", as_text(pair[1], "history")),
        ]
    return past


def question_about_text(row: Row, place: str) -> ChatRow | None:
    """SQuAD: {"context", "question", "answers"}; the first answer is learnt.

    Where there is none (`is_impossible`, or an empty list), the answer is `NO_ANSWER`.
    """
    if not row.has_all("context", "question"):
        return None
    context, question = row.needed_text("context"), row.needed_text("question")
    found = row.take("answers", "answer", "output", "response")
    if found is None and not _impossible(row):
        raise missing("answers")
    texts = _answers(*found) if found is not None else []
    if _impossible(row) or not texts:
        texts = [NO_ANSWER_ZH if is_chinese(question) else NO_ANSWER]
    whole = [
        *turns.system(row),
        Message("user", f"{context}\n{question}"),
        Message("assistant", texts[0]),
    ]
    for name, value in (("context", context), ("question", question)):
        if not value.strip():
            raise RowFault(f"{name} is empty", field=name, kind="empty message")
    return _checked(row, place, whole, "question", "answers")


def _impossible(row: Row) -> bool:
    return str(row.value("is_impossible")).lower() in ("true", "1")


def _answers(name: str, value: Any) -> list[str]:
    """The texts of `answers` as SQuAD, datasets of it and lists of words write them."""
    value = from_json_text(value, name)
    if isinstance(value, dict):
        value = value.get("text")
    if not isinstance(value, list):
        return [as_text(value, name)]
    return [
        as_text(one.get("text") if isinstance(one, dict) else one, f"{name}[{number}]")
        for number, one in enumerate(value)
    ]


def prompt_and_completion(row: Row, place: str) -> ChatRow | None:
    """{"prompt", "completion"} and the same by other names, as text or as lists of turns."""
    if not (row.has(*_QUESTION) and row.has(*_ANSWER)):
        return None
    question, answer = row.take(*_QUESTION), row.take(*_ANSWER)
    assert question is not None and answer is not None
    asked = turns.one_turn(question[1], question[0], "user")
    said = turns.one_turn(answer[1], answer[0], "assistant")
    before = turns.system(row) if asked[:1] and asked[0].role != "system" else []
    whole = turns.with_tools(row, [*before, *asked, *said])
    return _checked(row, place, whole, question[0], answer[0])


def plain_text(row: Row, place: str) -> TextRow | None:
    """{"text"}: all of it is learnt."""
    text = row.text("text", "content")
    if text is None:
        return None
    if not text.strip():
        raise RowFault(f"{row.used[-1]} is empty", field=row.used[-1], kind="empty message")
    return TextRow(text, place)


def _checked(
    row: Row, place: str, whole: list[Message], question: str, answer: str
) -> ChatRow | None:
    """A conversation of a question and an answer, which must not be empty."""
    for turn, name in zip(whole[-2:], (question, answer), strict=False):
        if len(whole) > 1 and not turn.content.strip():
            raise RowFault(f"{name} is empty", field=name, kind="empty message")
    turns.check(whole)
    return _chat(row, place, whole)


def _chat(row: Row, place: str, whole: list[Message]) -> ChatRow:
    task = row.value("task")
    spoken = {"messages", "conversations", "conversation", "task"}
    extra = {key: value for key, value in row.fields.items() if key not in spoken}
    return ChatRow(tuple(whole), place, task if isinstance(task, str) else None, extra)
