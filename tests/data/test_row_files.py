"""Whole files of rows: nested, without names, side by side, with the names of classes."""

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from chatgpt_cli.config.schema import FinetuneSection, ParallelFiles
from chatgpt_cli.data.problems import Problem
from chatgpt_cli.data.records import Row
from chatgpt_cli.data.records import read_rows as read_records
from chatgpt_cli.data.rows import read_labelled, read_learnt, read_rows
from chatgpt_cli.data.sft import _split, load_conversations
from chatgpt_cli.data.sources import find_files
from chatgpt_cli.errors import DataError
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


def _said(rows: list[Any]) -> list[list[str]]:
    return [[message.content for message in row.messages] for row in rows]


def test_squad_as_published(tmp_path: Path) -> None:
    questions: list[dict[str, Any]] = [
        {"question": "Who?", "answers": [{"text": "Tom", "answer_start": 0}]},
        {"question": "When?", "answers": [], "is_impossible": True},
    ]
    article = {"title": "t", "paragraphs": [{"context": "Tom ran.", "qas": questions}]}
    path = tmp_path / "train-v2.0.json"
    path.write_text(json.dumps({"version": "v2.0", "data": [article]}), encoding="utf-8")
    rows = read_rows([str(path)], on_error="stop").rows
    assert _said(rows) == [["Tom ran.\nWho?", "Tom"], ["Tom ran.\nWhen?", "No answer."]]
    assert rows[1].place == f"{path}, article 1, paragraph 1, question 2"


def test_a_tsv_without_names_is_a_translation_if_its_scripts_differ(tmp_path: Path) -> None:
    path = tmp_path / "cmn.tsv"
    path.write_text('Hi.\t嗨。\tCC-BY\n"Run!" he said.\t"跑！"\n', encoding="utf-8")
    rows = read_rows([str(path)], on_error="stop").rows
    assert _said(rows)[1] == ['Translate into Chinese: "Run!" he said.', '"跑！"']
    path.write_text("Hallo.\tHello.\nJa.\tYes.\n", encoding="utf-8")
    with pytest.raises(DataError, match="no known format has these fields"):
        read_rows([str(path)], on_error="stop")
    path.write_text("English\t中文\nHi.\t嗨。\n", encoding="utf-8")
    assert _said(read_rows([str(path)], on_error="stop").rows) == [
        ["Translate into Chinese: Hi.", "嗨。"]
    ]


def test_two_files_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "a.de").write_text("Hallo\n\nJa\n", encoding="utf-8")
    (tmp_path / "a.en").write_text("Hello\n\nYes\n", encoding="utf-8")
    files = ParallelFiles(source=str(tmp_path / "a.de"), target=str(tmp_path / "a.en"))
    rows = read_learnt([files], "translation", "both", on_error="stop").rows
    assert _said(rows)[:2] == [
        ["Translate into English: Hallo", "Hello"],
        ["Translate into German: Hello", "Hallo"],
    ]
    assert [row.place.rpartition(":")[2] for row in rows] == ["1", "1", "3", "3"]
    (tmp_path / "a.en").write_text("Hello\n\n \n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a.en:3: target is empty here"):
        read_learnt([files], "translation", "forward", on_error="stop")


def test_both_directions_of_a_pair_are_on_one_side(tmp_path: Path) -> None:
    pairs = [{"source": f"the cat {n}", "target": f"小明 {n}"} for n in range(200)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(pair) for pair in pairs), encoding="utf-8")
    values = {"data": [str(path)], "task": "translation", "direction": "both"}
    section = FinetuneSection.model_validate({**values, "validation_fraction": 0.2})
    learnt, held_out, _ = _split(section)
    sides = [{row.place for row in rows} for rows in (learnt, held_out)]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    assert len(learnt) == 2 * len(sides[0]) and len(held_out) == 2 * len(sides[1])


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.tsv.zst", "a.csv.zst", "a [1].jsonl"])
def test_rows_behind_zstandard_and_odd_names(name: str, tmp_path: Path) -> None:
    kind = name.split(".")[1]
    text = {
        "jsonl": '{"text": "the cat", "label": "a"}\n{"text": "a dog", "label": "b"}\n',
        "csv": "text,label\nthe cat,a\na dog,b\n",
        "tsv": "text\tlabel\nthe cat\ta\na dog\tb\n",
    }[kind].encode()
    data = zstandard.compress(text) if name.endswith(".zst") else text
    (tmp_path / name).write_bytes(data)
    rows = read_labelled([str(tmp_path / name)], on_error="stop").rows
    assert [row.label for row in rows] == ["a", "b"]


def test_a_bad_byte_costs_its_own_row_of_a_csv(tmp_path: Path) -> None:
    lines = [b"text,label", *[b"cat %d,a" % n for n in range(3000)]]
    lines[1500] = b"caf\xe9,a"
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines) + b"\n")
    found = read_labelled([str(tmp_path / "a.csv")], on_error="skip")
    assert len(found.rows) == 2999 and found.problems.counts == {"not UTF-8": 1}
    assert found.problems.first[0].place.endswith("a.csv:1501")


def test_numbers_of_classes_have_names_in_parquet(tmp_path: Path) -> None:
    features = {"label": {"names": ["bad", "good"], "_type": "ClassLabel"}}
    table = pyarrow.table({"text": ["a", "b"], "label": [1, 0]})
    table = table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    rows = read_labelled([str(tmp_path / "t.parquet")], on_error="stop").rows
    assert [row.label for row in rows] == ["good", "bad"]


def test_a_task_refuses_rows_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "a", "completion": "b"}), encoding="utf-8")
    assert read_learnt([str(path)], "instruction", "forward", on_error="stop").rows
    with pytest.raises(DataError, match=r"rows.jsonl:1: .*wanted here is translation"):
        read_learnt([str(path)], "translation", "forward", on_error="stop")


def test_plain_text_and_answers_in_one_training(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "rows.jsonl"
    rows: list[dict[str, str]] = [{"text": f"the cat {n}"} for n in range(20)]
    rows += [{"prompt": f"say {n}", "completion": "a kite"} for n in range(20)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    section = FinetuneSection(data=[str(path)], validation_fraction=0.1)
    data = load_conversations(section, tokenizer, 32, seed=0)
    assert "20 plain text, 20 prompt and completion" in data.notes[0]
    learnt = data.train.batch(0).labels
    assert (learnt == tokenizer.eos_id).any() and (learnt == tokenizer.turn_end_id).any()


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("closing", ['Yes, "until" then', "Yes."])
def test_an_unclosed_quote_costs_its_own_row_alone(
    closing: str, ending: str, tmp_path: Path
) -> None:
    """The quote that opens in line 5 takes in what follows, up to the next quote or the end."""
    lines = ["prompt,completion", 'a,"two', 'lines"', "b,x", 'c,"not closed', "d,y"]
    lines += [f'e,"{closing.replace(chr(34), chr(34) * 2)}"', "f,z"]
    path = tmp_path / "rows.csv"
    path.write_bytes((ending.join(lines) + ending).encode())
    with pytest.raises(DataError, match=r"rows.csv:5: broken CSV \(a quote that opens"):
        read_rows([str(path)], on_error="stop")
    report = read_rows([str(path)], on_error="skip")
    assert report.problems.counts == {"broken CSV": 1}
    assert [row.messages[1].content for row in report.rows] == [
        f"two{ending}lines", "x", "y", closing, "z",
    ]  # fmt: skip
    assert [row.place.rpartition(":")[2] for row in report.rows] == ["2", "4", "6", "7", "8"]


def test_a_quote_that_nothing_closes(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('prompt,completion\na,"b"c\nd,"e\nf,g', encoding="utf-8")
    report = read_rows([str(path)], on_error="skip")
    assert [problem.place.rpartition(":")[2] for problem in report.problems.first] == ["2", "3"]
    assert "is not closed" not in report.problems.first[0].reason
    assert _said(report.rows) == [["f", "g"]]


@given(
    rows=st.lists(
        st.lists(st.text('ab",\n\r ', max_size=6), min_size=2, max_size=2), min_size=1, max_size=5
    ),
    broken=st.integers(0, 5),
)
def test_csv_reads_as_the_standard_library_does(rows: list[list[str]], broken: int) -> None:
    """Whole rows come as written; after a broken one, in a line of its own, the rest does too."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
    writer.writerow(["x", "y"])
    writer.writerows(rows[:broken])
    stream.write('"a"b,c\r\n')
    writer.writerows(rows[broken:])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        path.write_bytes(stream.getvalue().encode())
        found = list(read_records(find_files(str(path))[0]))
    assert [list(one.fields.values()) for one in found if isinstance(one, Row)] == rows
    assert [one.kind for one in found if isinstance(one, Problem)] == ["broken CSV"]


def test_empty_lines_of_a_csv_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\nprompt,completion\n\na,b\n\n", encoding="utf-8")
    (row,) = read_rows([str(path)], on_error="stop").rows
    assert row.place.endswith(":4")


def test_a_csv_of_semicolons_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt;completion\na;b\n", encoding="utf-8")
    with pytest.raises(DataError, match="divided by ;"):
        read_rows([str(path)], on_error="stop")
