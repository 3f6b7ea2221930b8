"""Tasks from YAML: templates, choices, styles, and what is refused with a reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from chatgpt_cli.config.paths import builtin
from chatgpt_cli.config.schema import EvaluateSection, TaskSection
from chatgpt_cli.errors import DataError
from chatgpt_cli.evaluation.task_rows import read_task
from chatgpt_cli.evaluation.tasks import run_task
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

MMLU = {"question": "1+1?", "choices": ["one", "two", "three", "four"], "answer": 1}
ROWS: dict[str, dict[str, Any]] = {
    "mmlu": MMLU,
    "ceval": {"id": 0, "question": "首都？", "A": "上海", "B": "北京", "C": "广州", "D": "天津",
              "answer": "B"},
    "arc": {"question": "?", "choices": {"text": ["sun", "moon"], "label": ["1", "2"]},
            "answerKey": "2"},
    "hellaswag": {"ctx": "A man", "endings": ["runs", "two"], "label": "1"},
    "piqa": {"goal": "Open", "sol1": "push", "sol2": "pull", "label": 1},
    "sst2": {"sentence": "fine film", "label": 1, "idx": 3},
    "squad": {"context": "Tom ran.", "question": "Who?", "answers": {"text": ["Tom", "tom"],
              "answer_start": [0, 0]}},
    "cmrc": {"context": "小明跑。", "question": "谁？", "answers": {"text": ["小明"]}},
    "gsm8k": {"question": "2+2?", "answer": "2+2=4\n#### 4"},
    "translation": {"source": "cat", "target": "猫"},
    "summarization": {"document": "long", "summary": "short"},
}  # fmt: skip
WANTED = {"mmlu": "two", "ceval": "北京", "arc": "moon", "hellaswag": "two", "piqa": "pull",
          "sst2": "positive"}  # fmt: skip


def _file(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "rows.jsonl"
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_there_is_a_case_for_every_template() -> None:
    assert set(ROWS) == {path.stem for path in builtin("configs", "tasks").glob("*.yaml")}


@pytest.mark.parametrize("name", ROWS)
def test_templates_read_the_rows_they_are_for(name: str, tmp_path: Path) -> None:
    task = TaskSection.model_validate({"like": name, "data": _file(tmp_path, ROWS[name])})
    (row,) = read_task(task, limit=None)
    assert row.messages[0].content and row.references
    if name in WANTED:
        assert row.references == [WANTED[name]] and row.choices is not None
        assert WANTED[name] in row.choices


@pytest.mark.parametrize(
    ("choices", "answer", "wanted"),
    [
        (["4", "2", "0", "6"], 2, "0"),
        (["4", "2", "0", "6"], "2", "2"),
        (["x", "y", "x", "z"], 3, "z"),
        (["x", "y", "x", "z"], "B", "y"),
    ],
)
def test_a_number_is_a_position(
    choices: list[str], answer: object, wanted: str, tmp_path: Path
) -> None:
    rows = _file(tmp_path, {"question": "?", "choices": choices, "answer": answer})
    (row,) = read_task(TaskSection.model_validate({"like": "mmlu", "data": rows}), limit=None)
    assert row.references == [wanted] and row.choices == choices


def test_a_template_is_changed_by_the_keys_set() -> None:
    task = TaskSection.model_validate({"like": "squad", "data": "d", "name": "mine"})
    assert (task.name, task.metrics) == ("mine", ["exact_match", "f1"])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"like": "sqaud"}, "did you mean squad"),
        ({"prompt": "{a}"}, "belong together"),
        ({"answer": "choice", "prompt": "{a}", "reference": "{b}"}, "needs choices"),
        ({"metrics": ["f1_micro"]}, "needs labels"),
        ({"metrics": ["accuracy_normalized"]}, "needs answer: choice"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TaskSection.model_validate({"name": "t", "data": "d", "metrics": ["bleu"], **values})


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**MMLU, "answer": 7}, "none of the 4 choices"),
        ({"qestion": "?", "choices": ["a", "b"], "answer": 0}, "did you mean qestion"),
        ({**MMLU, "choices": ["one"], "answer": 0}, "fewer than two choices"),
        ({**MMLU, "choices": ["one", " "], "answer": 0}, "a choice is empty"),
    ],
)
def test_rows_that_do_not_fit_are_named(row: dict[str, Any], words: str, tmp_path: Path) -> None:
    task = TaskSection.model_validate({"like": "mmlu", "data": _file(tmp_path, MMLU, row)})
    with pytest.raises(DataError, match=words) as error:
        read_task(task, limit=None)
    assert "rows.jsonl:2" in str(error.value)
    assert len(read_task(task, limit=1)) == 1


def test_templates_reach_no_attributes(tmp_path: Path) -> None:
    task = TaskSection(
        name="t", data=_file(tmp_path, {"a": "x"}), metrics=["bleu"], prompt="{a.__class__}",
        reference="{a}",
    )  # fmt: skip
    with pytest.raises(DataError, match="no field"):
        read_task(task, limit=None)


@pytest.mark.parametrize("style", ["chat", "text"])
def test_choosing_and_writing(
    style: str, model: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    rows = [{"text": "the cat", "label": 0}, {"text": "our dog", "label": 1}]
    task = TaskSection(
        name="t", data=_file(tmp_path, *rows), metrics=["accuracy"], prompt="{text}",
        reference="{label}", answer="choice", labels=["red", "the garden"], max_tokens=5,
    )  # fmt: skip
    asked = read_task(task, limit=None)
    assert [row.references for row in asked] == [["red"], ["the garden"]]
    names = ["accuracy", "accuracy_normalized", "f1", "calibration_error"]
    chosen = run_task(
        task, asked, names, EvaluateSection(), model, tokenizer,
        style="chat" if style == "chat" else "text", system_prompt=None,
    )  # fmt: skip
    for row in chosen.predictions:
        best = row["choices"][row["likelihoods"].index(max(row["likelihoods"]))]
        assert row["prediction"] == best and 0.5 <= row["confidence"] <= 1
    assert chosen.summary()["metrics"]["accuracy"]["interval_method"] == "wilson"

    written = run_task(
        task.model_copy(update={"answer": "text"}), asked, ["bleu"], EvaluateSection(), model,
        tokenizer, style="chat" if style == "chat" else "text", system_prompt=None,
    )  # fmt: skip
    assert all(0 <= row["confidence"] <= 1 for row in written.predictions)


def test_the_judge_must_be_named() -> None:
    with pytest.raises(ValidationError, match="needs evaluate"):
        EvaluateSection.model_validate(
            {"tasks": [{"name": "t", "data": "d", "metrics": ["judge"]}]}
        )
