"""Rows in people's formats: told by their fields, refused with a reason of their own."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatgpt_cli.data.formats.classification import LabelledRow
from chatgpt_cli.data.formats.conversations import ChatRow, TextRow
from chatgpt_cli.data.formats.fields import RowFault
from chatgpt_cli.data.formats.preferences import JudgedRow, PreferenceRow
from chatgpt_cli.data.formats.recognise import recognise
from chatgpt_cli.data.formats.translation import TranslationRow
from chatgpt_cli.data.rows import read_preferences, read_rows
from chatgpt_cli.errors import DataError

CALL = '{"name": "f", "arguments": {"a": 1}}'
SPOKEN_CALL = f"<tool_call>\n{CALL}\n</tool_call>"
ASKED = {"role": "user", "content": "a"}
SAID = {"role": "assistant", "content": "b"}
OPENAI_CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}

CHAT: list[tuple[str, dict[str, Any], list[str]]] = [
    ("messages", {"messages": [ASKED, SAID]}, ["a", "b"]),
    ("messages", {"messages": json.dumps([ASKED, SAID])}, ["a", "b"]),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, SAID]}, ["a", "b"]),
    ("messages", {"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [OPENAI_CALL]}, {"role": "tool", "content": "1"}, SAID]}, ["a", SPOKEN_CALL, "1", "b"]),
    ("messages", {"messages": [ASKED, {"role": "assistant", "content": "let me see", "tool_calls": [OPENAI_CALL]}, {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}, SAID]}, ["a", "let me see\n" + SPOKEN_CALL, "1", "2", "b"]),
    ("ShareGPT", {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s"}, ["s", "a", "b"]),
    ("ShareGPT", {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "function_call", "value": CALL}, {"from": "observation", "value": "1"}, {"from": "gpt", "value": "c"}], "tools": "[]"}, ["a", "b\n" + SPOKEN_CALL, "1", "c"]),
    ("Alpaca", {"instruction": "a", "input": "x", "output": "b", "history": [["p", "q"]]}, ["p", "q", "a\nx", "b"]),
    ("Alpaca", {"instruction": "a", "context": "x", "response": "b", "category": "open"}, ["a\nx", "b"]),
    ("prompt and completion", {"prompt": "a", "completion": "b"}, ["a", "b"]),
    ("prompt and completion", {"Question": "a", "Answer": "b"}, ["a", "b"]),
    ("prompt and completion", {"prompt": [ASKED], "completion": [SAID]}, ["a", "b"]),
    ("question about a text", {"context": "c", "question": "a", "answers": {"text": ["b", "d"]}}, ["c\na", "b"]),
    ("question about a text", {"context": "c", "question": "a", "answers": [{"text": "b", "answer_start": 0}]}, ["c\na", "b"]),
    ("question about a text", {"context": "c", "question": "a", "answers": {"text": [], "answer_start": []}}, ["c\na", "No answer."]),
    ("question about a text", {"context": "书", "question": "谁？", "answers": [], "is_impossible": True}, ["书\n谁？", "没有答案。"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "contents"), CHAT)
def test_conversations_are_found_by_their_fields(
    name: str, row: dict[str, Any], contents: list[str]
) -> None:
    found = recognise(row)
    assert isinstance(found.example, ChatRow)
    assert found.format == name and [m.content for m in found.example.messages] == contents
    assert set(found.fields) <= set(row)


def test_tools_are_told_to_the_model() -> None:
    row = {"messages": [{"role": "system", "content": "s"}, ASKED, SAID], "tools": [{"name": "f"}]}
    example = recognise(row).example
    assert isinstance(example, ChatRow)
    assert (
        example.messages[0].content.startswith("s\n\n")
        and '{"name": "f"}' in example.messages[0].content
    )


PAIRS: list[tuple[dict[str, Any], list[str], str, str]] = [
    ({"prompt": "a", "chosen": "b", "rejected": "c"}, ["a"], "b", "c"),
    ({"system": "s", "question": "a", "chosen": "b", "rejected": "c"}, ["s", "a"], "b", "c"),
    ({"instruction": "a", "input": "x", "chosen": "b", "rejected": "c"}, ["a\nx"], "b", "c"),
    ({"instruction": "a", "input": "", "output": ["b", "c"]}, ["a"], "b", "c"),
    ({"prompt": [ASKED], "chosen": [SAID], "rejected": [{**SAID, "content": "c"}]}, ["a"], "b", "c"),
    ({"prompt": "a", "chosen": [ASKED, SAID], "rejected": [ASKED, {**SAID, "content": "c"}]}, ["a"], "b", "c"),
    ({"chosen": [ASKED, SAID], "rejected": [ASKED, {**SAID, "content": "c"}]}, ["a"], "b", "c"),
    ({"messages": [ASKED], "chosen": "b", "rejected": "c"}, ["a"], "b", "c"),
    ({"conversations": [{"from": "human", "value": "a"}], "chosen": {"from": "gpt", "value": "b"}, "rejected": {"from": "gpt", "value": "c"}}, ["a"], "b", "c"),
    ({"input": {"messages": [ASKED]}, "preferred_output": [SAID], "non_preferred_output": [{**SAID, "content": "c"}]}, ["a"], "b", "c"),
    ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}, ["a"], "b", "c"),
    ({"prompt": "a", "chosen": '{"x": 1}', "rejected": "[1"}, ["a"], '{"x": 1}', "[1"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "prompt", "chosen", "rejected"), PAIRS)
def test_preferences_in_every_spelling(
    row: dict[str, Any], prompt: list[str], chosen: str, rejected: str
) -> None:
    example = recognise(row, "here").example
    assert isinstance(example, PreferenceRow) and example.place == "here"
    assert [m.content for m in example.prompt] == prompt
    assert [(m.role, m.content) for m in example.chosen] == [("assistant", chosen)]
    assert [(m.role, m.content) for m in example.rejected] == [("assistant", rejected)]


@pytest.mark.parametrize(
    ("row", "good"),
    [
        ({"prompt": "a", "completion": "b", "label": True}, True),
        ({"prompt": "a", "completion": "b", "label": "False"}, False),
        ({"messages": [ASKED, SAID], "label": 0}, False),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "kto_tag": True}, True),
    ],
)  # fmt: skip
def test_answers_judged_good_or_bad(row: dict[str, Any], good: bool) -> None:
    example = recognise(row).example
    assert isinstance(example, JudgedRow) and example.good is good
    assert [m.content for m in example.prompt] == ["a"]
    assert [m.content for m in example.completion] == ["b"]


TRANSLATIONS: list[tuple[dict[str, Any], str, tuple[str | None, str | None]]] = [
    ({"translation": {"en": "hello", "zh": "你好"}}, "Translate into Chinese: hello", ("English", "Chinese")),
    ({"en": "hello", "zh-CN": "你好", "id": "7"}, "Translate into Chinese: hello", ("English", "Chinese")),
    ({"German": "hallo", "French": "salut"}, "Translate into French: hallo", ("German", "French")),
    ({"src": "hello", "tgt": "你好"}, "Translate into Chinese: hello", (None, None)),
    ({"source": "a", "target": "b", "target_lang": "fr"}, "Translate into French: a", (None, "French")),
]  # fmt: skip


@pytest.mark.parametrize(("row", "asked", "languages"), TRANSLATIONS)
def test_translations(
    row: dict[str, Any], asked: str, languages: tuple[str | None, str | None]
) -> None:
    example = recognise(row).example
    assert isinstance(example, TranslationRow) and example.languages == languages
    there, back = example.conversations("both")
    assert there.messages[0].content == asked and there.messages[1].content == example.target
    assert back.messages[1].content == example.source


@pytest.mark.parametrize(
    ("row", "texts", "label"),
    [
        ({"text": "a", "label": "good"}, ("a",), "good"),
        ({"text": "a", "label": 0, "label_text": "negative"}, ("a",), "negative"),
        ({"text": "a", "label": 3}, ("a",), "3"),
        ({"sentence1": "a", "sentence2": "b", "label": 1}, ("a", "b"), "1"),
        ({"premise": "a", "hypothesis": "b", "label": "neutral"}, ("a", "b"), "neutral"),
        ({"Class Index": "3", "Title": "a", "Description": "b"}, ("a", "b"), "3"),
        ({"review": "a", "sentiment": "positive"}, ("a",), "positive"),
    ],
)
def test_labelled_texts(row: dict[str, Any], texts: tuple[str, ...], label: str) -> None:
    example = recognise(row).example
    assert isinstance(example, LabelledRow) and (example.texts, example.label) == (texts, label)


def test_plain_text_and_rows_that_serve_two_ends() -> None:
    assert isinstance(recognise({"text": "a", "url": "u"}).example, TextRow)
    both = {"text": "a", "label": "good"}
    assert isinstance(recognise(both, first=("plain text",)).example, TextRow)


def _turns(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": "x"} for role in roles]}


BAD: list[tuple[dict[str, Any], str, str | None]] = [
    ({"mesages": []}, "did you mean 'messages'", None),
    ({"messages": "x"}, "must be a list", "messages"),
    ({"messages": [1]}, "message 1 of messages must be an object, it is a number", "messages"),
    (_turns("user"), "no assistant message", "messages"),
    (_turns("assistant", "user"), "begins with the assistant", "messages"),
    (_turns("tool", "assistant"), "begins with a tool's answer", "messages"),
    (_turns("user", "user", "assistant"), "messages 1 and 2 are both by the user", "messages"),
    (_turns("user", "assistant", "user"), "last message is by the user", "messages"),
    (_turns("user", "system", "assistant"), "must come first", "messages"),
    (_turns("user", "asistant"), "did you mean 'assistant'", "messages[1].role"),
    ({"messages": [ASKED, {**SAID, "weight": 2}]}, "weight is 2", "messages[1].weight"),
    ({"messages": [ASKED, {"role": "assistant"}]}, "missing", "messages[1].content"),
    ({"instruction": "a"}, "no output", "output"),
    ({"instruction": "a", "output": "b", "history": [["a"]]}, "list of pairs", "history"),
    ({"prompt": "a", "completion": ""}, "completion is empty", "completion"),
    ({"prompt": 5, "completion": "b"}, "prompt must be text, it holds a number", "prompt"),
    ({"context": "", "question": "q", "answers": ["a"]}, "context is empty", "context"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "only text", "messages[0].content"),
    ({"prompt": "a", "chosen": "b"}, "rejected is missing", "rejected"),
    ({"prompt": "a", "chosen": "b", "rejected": " b "}, "are the same", "rejected"),
    ({"prompt": "a", "chosen": "", "rejected": "b"}, "chosen is empty", "chosen"),
    ({"prompt": " ", "chosen": "a", "rejected": "b"}, "the prompt is empty", "prompt"),
    ({"chosen": "a", "rejected": "b"}, "no prompt", "prompt"),
    ({"prompt": "a", "completion": "b", "label": "maybe"}, "true .* or false", "label"),
    ({"translation": {"en": "a"}}, "holds 1 languages", "translation"),
    ({"en": "a", "zh": " "}, "zh is empty", "zh"),
    ({"text": "a", "label": -1}, "has no label", "label"),
    ({"text": "a", "label": ["x", "y"]}, "holds 2 labels", "label"),
    ({"text": "", "label": "x"}, "text is empty", "text"),
    ({"text": " "}, "text is empty", "text"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "reason", "field"), BAD)
def test_faults_have_messages_of_their_own(
    row: dict[str, Any], reason: str, field: str | None
) -> None:
    with pytest.raises(RowFault, match=reason) as fault:
        recognise(row)
    assert fault.value.field == field


NAMES = ["messages", "conversations", "instruction", "output", "history", "prompt", "completion", "context", "question", "answers", "src", "tgt", "text", "label", "chosen", "rejected", "translation", "en", "zh", "tools", "input", "kto_tag"]  # fmt: skip
INNER = ["role", "content", "from", "value", "weight", "tool_calls", "function", "name", "arguments", "text", "type", "en"]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["user", "gpt", "assistant", "[{", '[{"role"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=400)
@given(row=st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5))
def test_any_row_is_read_or_refused(row: dict[str, Any]) -> None:
    with contextlib.suppress(RowFault):
        recognise(row)


def _written(path: Path, *rows: object) -> str:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def test_faults_name_file_and_line(tmp_path: Path) -> None:
    path = _written(tmp_path / "rows.jsonl", CHAT[0][1], _turns("user"), "{")
    with pytest.raises(DataError) as error:
        read_rows([path], on_error="stop")
    assert "rows.jsonl:2: there is no assistant" in str(error.value)
    assert "rows.jsonl:3" in str(error.value)
    report = read_rows([path], on_error="skip")
    assert len(report.rows) == 1 and sum(report.problems.counts.values()) == 2


def test_preferences_from_files(tmp_path: Path) -> None:
    path = _written(tmp_path / "pairs.jsonl", PAIRS[0][0], PAIRS[5][0], CHAT[0][1])
    report = read_preferences([path], on_error="skip")
    assert [row.place for row in report.rows] == [f"{path}:1", f"{path}:2"]
    assert report.problems.counts == {"row of another kind": 1}
    with pytest.raises(
        DataError, match=r"pairs.jsonl:3: .*format messages.*wanted here is preference"
    ):
        read_preferences([path], on_error="stop")
    with pytest.raises(
        DataError, match=r"make this a preference .*wanted here is rows that have an answer"
    ):
        read_rows([path], on_error="stop")
