"""Evaluations written and read back, and compared question by question."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from chatgpt_cli.config.schema import EvaluateSection, TaskSection
from chatgpt_cli.errors import DataError
from chatgpt_cli.evaluation.comparison import compare
from chatgpt_cli.evaluation.report.comparison_page import write_comparison_page
from chatgpt_cli.evaluation.results import read_evaluation, write_results
from chatgpt_cli.evaluation.run import HeldOut, Results, Subject
from chatgpt_cli.evaluation.task_rows import TaskRow
from chatgpt_cli.evaluation.tasks import TaskResult, run_task
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.chat import Message
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.validation import mean_loss

ROWS = [
    TaskRow((Message("user", f"Say {n}"),), [f"the answer to this is {n}"], f"rows.jsonl:{n + 1}")
    for n in range(40)
]


def _write(
    folder: Path,
    model: Transformer,
    tokenizer: Tokenizer,
    right: int,
    *,
    rows: list[TaskRow] = ROWS,
    nats: float = 2.0,
    bytes_each: float = 10.0,
) -> None:
    """An evaluation in which the first `right` answers are the reference."""
    task = TaskSection(name="say", data="rows.jsonl", metrics=["exact_match", "bleu"], max_tokens=2)
    result = run_task(
        task, rows, [], EvaluateSection(), model, tokenizer, style="chat", system_prompt=None
    )
    result = _with_answers(task, result, rows, right)
    documents = np.tile([[nats * 5, 5.0, bytes_each, 2.0]], (30, 1))
    documents[:, 0] += np.linspace(0, 0.1, 30)
    results = Results([result], HeldOut("held-out text", mean_loss(documents), documents))
    hardware = Hardware(torch.device("cpu"), torch.float32, "sdpa", False, 1)
    write_results(
        folder / "evaluate", Subject(model, tokenizer, folder, "finetune", hardware), results
    )


def _with_answers(
    task: TaskSection, result: TaskResult, rows: list[TaskRow], right: int
) -> TaskResult:
    from chatgpt_cli.evaluation.metrics import METRICS
    from chatgpt_cli.evaluation.metrics.score import Answers
    from chatgpt_cli.evaluation.statistics import intervals

    said = [
        row.references[0] if n < right else "the answer to this is none"
        for n, row in enumerate(rows)
    ]
    answers = Answers(task, said, [row.references for row in rows])
    scores = {name: METRICS[name](answers) for name in task.metrics}
    predictions = [
        {**old, "prediction": text, "scores": {name: s.rows[n] for name, s in scores.items()}}
        for n, (old, text) in enumerate(zip(result.predictions, said, strict=True))
    ]
    return TaskResult(task, scores, intervals(scores), predictions, 1.0, 0)


def test_scores_come_back_from_the_files(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    _write(tmp_path, model, tokenizer, 25)
    found = read_evaluation(tmp_path)
    scores = found.scores("say")
    assert scores["exact_match"].value == 25 / 40
    for name, metric in found.content["tasks"]["say"]["metrics"].items():
        assert scores[name].value == pytest.approx(metric["value"])
        low, high = metric["interval"]
        assert low <= metric["value"] <= high
    assert found.scores("say", [0, 1])["exact_match"].value == 1.0
    assert found.documents is not None and found.documents.shape == (30, 4)


def test_a_clear_difference_and_none(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    for name, right, nats in (("base", 10, 2.0), ("good", 36, 1.5), ("alike", 11, 2.0)):
        _write(tmp_path / name, model, tokenizer, right, nats=nats)
    found = compare([tmp_path / name for name in ("base", "good", "alike")])
    assert found.runs == ["base", "good", "alike"]
    metrics = {one.metric: one for one in found.metrics}
    assert list(metrics) == ["perplexity", "bits_per_byte", "exact_match", "bleu"]
    for one in metrics.values():
        assert one.against[0].verdict == "better", one
        assert one.against[1].verdict == "no clear difference", one
    gap = metrics["exact_match"].against[0].difference
    assert gap.value == pytest.approx(26 / 40) and 0.4 < gap.low < gap.value < gap.high
    worse = compare([tmp_path / "good", tmp_path / "base"])
    assert {one.against[0].verdict for one in worse.metrics} == {"worse"}
    assert json.loads(json.dumps(found.summary()))["runs"] == found.runs

    write_comparison_page(tmp_path / "page.html", found)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "no clear difference" in page and "this is 10" in page and "<script" not in page


def test_only_questions_that_all_runs_answered(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    _write(tmp_path / "a", model, tokenizer, 40)
    _write(tmp_path / "b", model, tokenizer, 5, rows=ROWS[30:] + ROWS[:10], bytes_each=11.0)
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert {one.task: one.rows for one in found.metrics} == {"say": 20}
    assert any("20 of 40" in note for note in found.notes)
    assert any("not the same text" in note for note in found.notes)


def test_what_cannot_be_compared(model: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> None:
    _write(tmp_path / "a", model, tokenizer, 5)
    with pytest.raises(DataError, match="two runs"):
        compare([tmp_path / "a"])
    with pytest.raises(DataError, match="no such folder"):
        compare([tmp_path / "a", tmp_path / "b"])
    (tmp_path / "a" / "evaluate" / "predictions.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        read_evaluation(tmp_path / "a")
    (tmp_path / "a" / "evaluate" / "results.json").write_text('{"format": 1}', encoding="utf-8")
    with pytest.raises(DataError, match="format 1"):
        read_evaluation(tmp_path / "a")
