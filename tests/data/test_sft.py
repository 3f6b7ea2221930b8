"""Rows in people's formats, packing, and what finetuning learns from them."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatgpt_cli.config.schema import FinetuneSection
from chatgpt_cli.data.batch import IGNORE
from chatgpt_cli.data.packing import pack
from chatgpt_cli.data.row_formats import convert
from chatgpt_cli.data.rows import read_rows
from chatgpt_cli.data.sft import load_conversations
from chatgpt_cli.errors import DataError
from chatgpt_cli.tokenizer.special import END, PAD
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

GOOD: list[tuple[str, dict[str, Any], list[str]]] = [
    ("messages", {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, ["a", "b"]),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "content": "b"}]}, ["a", "b"]),
    ("sharegpt", {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s"}, ["s", "a", "b"]),
    ("alpaca", {"instruction": "a", "input": "x", "output": "b", "history": [["p", "q"]]}, ["p", "q", "a\nx", "b"]),
    ("prompt_and_completion", {"prompt": "a", "completion": "b"}, ["a", "b"]),
    ("prompt_and_completion", {"question": "a", "answer": "b"}, ["a", "b"]),
    ("question_about_text", {"context": "c", "question": "a", "answers": {"text": ["b", "d"]}}, ["c\na", "b"]),
    ("translation", {"src": "hello", "tgt": "你好"}, ["Translate into Chinese: hello", "你好"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "contents"), GOOD)
def test_formats_are_found_by_their_fields(
    name: str, row: dict[str, Any], contents: list[str]
) -> None:
    found, messages = convert(row)
    assert found == name and [m.content for m in messages] == contents


def _turns(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": "x"} for role in roles]}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"mesages": []}, "did you mean 'messages'"),
    ({"messages": "x"}, "must be a list"),
    (_turns("user"), "no assistant message"),
    (_turns("assistant", "user"), "begins with the assistant"),
    (_turns("user", "user", "assistant"), "messages 1 and 2 are both by the user"),
    (_turns("user", "assistant", "user"), "last message is by the user"),
    (_turns("user", "system", "assistant"), "must come first"),
    (_turns("user", "asistant"), "did you mean 'assistant'"),
    ({"instruction": "a"}, "no output"),
    ({"prompt": "a", "completion": ""}, "message 2, by the assistant, is empty"),
    ({"prompt": 5, "completion": "b"}, "prompt must be text, it holds int"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "only text"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "reason"), BAD)
def test_faults_have_messages_of_their_own(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        convert(row)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["messages", "role", "content", "from", "value", "prompt", "completion", "history", "instruction", "output", "weight"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    row=st.dictionaries(
        st.sampled_from(
            [
                "messages",
                "conversations",
                "instruction",
                "output",
                "history",
                "prompt",
                "completion",
                "context",
                "question",
                "answers",
                "src",
                "tgt",
            ]
        ),
        JSON,
        max_size=4,
    )
)
def test_any_row_is_read_or_refused(row: dict[str, Any]) -> None:
    with contextlib.suppress(ValueError):
        convert(row)


def test_faults_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [json.dumps(GOOD[0][1]), json.dumps(_turns("user")), "{"]
    path.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_rows([str(path)], on_error="stop")
    assert "rows.jsonl:2: there is no assistant" in str(error.value)
    assert "rows.jsonl:3" in str(error.value)
    report = read_rows([str(path)], on_error="skip")
    assert len(report.rows) == 1 and sum(report.problems.counts.values()) == 2


@given(lengths=st.lists(st.integers(1, 32), min_size=1, max_size=200), bins=st.integers(1, 20))
def test_packing_loses_nothing_and_overflows_nothing(lengths: list[int], bins: int) -> None:
    packed = pack(np.array(lengths), 32, open_bins=bins)
    assert sorted(item for members in packed for item in members) == list(range(len(lengths)))
    assert all(sum(lengths[item] for item in members) <= 32 for members in packed)


def _data(tmp_path: Path, tokenizer: Tokenizer, rows: list[tuple[str, str]], **section: Any) -> Any:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"prompt": a, "completion": b}, ensure_ascii=False) for a, b in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    values = {"data": [str(path)], "batch_size": 4, "validation_fraction": 0.1, **section}
    return load_conversations(FinetuneSection.model_validate(values), tokenizer, 32, seed=3)


ROWS = [(f"say the cat {n}", "a dog" + " saw" * (n % 7)) for n in range(120)]


def test_every_conversation_once_an_epoch_and_isolated(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    data = _data(tmp_path, tokenizer, ROWS)
    source = data.train
    rows = round(source.batches_per_epoch * source.batch_size)
    seen: dict[tuple[int, ...], int] = {}
    for row in range(rows):
        batch, at = source.batch(row // 4), row % 4
        ids, segments = batch.input_ids[at].numpy(), batch.segment_ids[at].numpy()
        labels, positions = batch.labels[at].numpy(), batch.position_ids[at].numpy()
        for segment in set(segments.tolist()) - {0}:
            part = np.flatnonzero(segments == segment)
            assert (np.diff(part) == 1).all() and positions[part].tolist() == list(range(len(part)))
            assert ids[part[-1]] == END and labels[part[-1]] == IGNORE
            assert batch.begins[at, part].tolist() == [True] + [False] * (len(part) - 1)
            learnt = part[labels[part] != IGNORE]
            assert (labels[learnt] == ids[learnt + 1]).all() and labels[learnt[-1]] == END
            key = tuple(ids[part].tolist())
            seen[key] = seen.get(key, 0) + 1
        assert (ids[segments == 0] == PAD).all() and (labels[segments == 0] == IGNORE).all()
    held_out = len(data.validation.data)
    assert len(seen) == len(ROWS) - held_out and set(seen.values()) == {1}


def test_batches_can_be_asked_for_in_any_order(tmp_path: Path, tokenizer: Tokenizer) -> None:
    one, other = (_data(tmp_path, tokenizer, ROWS).train for _ in range(2))
    forward = [one.batch(k).input_ids for k in range(40)]
    for k in (39, 2, 17, 0, 38):
        assert np.array_equal(forward[k], other.batch(k).input_ids)


def test_split_is_by_content(tmp_path: Path, tokenizer: Tokenizer) -> None:
    few = _data(tmp_path, tokenizer, ROWS[:80]).validation.data
    many = _data(tmp_path, tokenizer, ROWS).validation.data
    rows = [
        {tuple(d.ids[a:b].tolist()) for a, b in zip(d.starts, d.starts[1:], strict=False)}
        for d in (few, many)
    ]
    assert rows[0] <= rows[1]


def test_long_prompts_are_cut_and_the_answer_stays(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [(f"the cat and the dog {n} " * 9, "a red kite") for n in range(20)]
    data = _data(tmp_path, tokenizer, rows)
    assert any("cut at the front" in note for note in data.notes)
    batch = data.train.batch(0)
    wanted = [*tokenizer.encode("a red kite"), END]
    for labels in batch.labels.tolist():
        assert [label for label in labels if label != IGNORE] == wanted


def test_answer_that_is_too_long_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [*ROWS, ("say", "a dog saw the cat " * 20)]
    with pytest.raises(DataError, match="the answer alone has"):
        _data(tmp_path, tokenizer, rows)
