"""Whole files of rows: nested, without names, side by side, with the names of classes."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from chatgpt_cli.config.schema import FinetuneSection, ParallelFiles
from chatgpt_cli.data.rows import read_labelled, read_learnt, read_rows
from chatgpt_cli.data.sft import load_conversations
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
