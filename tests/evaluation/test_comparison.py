"""Evaluations written and read back, and compared question by question."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chatgpt_cli.cli.main import main
from chatgpt_cli.config.schema import Config, EvaluateSection, TaskSection
from chatgpt_cli.errors import DataError
from chatgpt_cli.evaluation.comparison import compare
from chatgpt_cli.evaluation.report.comparison_page import write_comparison_page
from chatgpt_cli.evaluation.results import fuller, read_evaluation, write_results
from chatgpt_cli.evaluation.run import HeldOut, HeldOutName, Results, Subject
from chatgpt_cli.evaluation.statistics import holm
from chatgpt_cli.evaluation.task_rows import TaskRow
from chatgpt_cli.evaluation.tasks import TaskResult, run_task
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.provenance import Session, write_record
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
    text: str = "a hash",
    stage: str = "finetune",
    name: HeldOutName = "held-out text",
    settings: dict[str, Any] | None = None,
) -> None:
    """An evaluation in which the first `right` answers are the reference.

    `settings`, by sections, are those of finetuning that differ from the defaults.
    """
    if settings is not None:
        config = Config.model_validate(settings).model_dump(mode="json", by_alias=True)
        (folder / "finetune").mkdir(parents=True)
        (folder / "finetune" / "metrics.jsonl").touch()
        write_record(folder / "finetune", [Session(0, config, "", {"threads": 2}, {})])
    task = TaskSection(name="say", data="rows.jsonl", metrics=["exact_match", "bleu"], max_tokens=2)
    result = run_task(
        task, rows, [], EvaluateSection(), model, tokenizer, style="chat", system_prompt=None
    )
    result = _with_answers(task, result, rows, right)
    documents = np.tile([[nats * 5, 5.0, bytes_each, 2.0]], (30, 1))
    documents[:, 0] += np.linspace(0, 0.1, 30)
    results = Results([result], HeldOut(name, mean_loss(documents), documents, text))
    hardware = Hardware(torch.device("cpu"), torch.float32, "sdpa", False, 1)
    write_results(folder / "evaluate", Subject(model, tokenizer, folder, stage, hardware), results)


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


def test_that_less_than_before_was_measured_is_noticed(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder, both = tmp_path / "evaluate", ["exact_match", "bleu"]
    task = TaskSection(name="say", data="rows.jsonl", metrics=both, max_tokens=2)
    assert fuller(folder, [(task, both)], 2) is None
    _write(tmp_path, model, tokenizer, 25)
    assert fuller(folder, [(task, both)], None) is None
    assert fuller(folder, [(task, both)], len(ROWS)) is None
    assert fuller(folder, [(task, both)], 2) == "say"
    assert fuller(folder, [(task, ["bleu"])], None) == "say"
    assert fuller(folder, [], None) == "say"
    (folder / "results.json").write_text("[]", encoding="utf-8")
    assert fuller(folder, [], None) is None


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
    _write(tmp_path / "b", model, tokenizer, 5, rows=ROWS[30:] + ROWS[:10], text="another")
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


def _two_groups(folder: Path, model: Transformer, tokenizer: Tokenizer) -> list[Path]:
    """Three seeds with Muon and three with AdamW, which answers more."""
    runs = []
    for optimizer, rights in (("muon", (20, 21, 22)), ("adamw", (30, 31, 33))):
        for seed, right in enumerate(rights):
            runs.append(folder / f"{optimizer}-{seed}")
            settings = {"seed": seed, "finetune": {"optimizer": optimizer}}
            _write(runs[-1], model, tokenizer, right, settings=settings)
    return runs


def test_runs_of_other_seeds_are_groups(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = _two_groups(tmp_path, model, tokenizer)
    # Where a run stands in the line makes no difference.
    found = compare([runs[0], runs[3], *runs[1:3], *runs[4:]])
    assert [(one.name, one.runs) for one in found.groups] == [
        ("muon-*", [0, 2, 3]),
        ("adamw-*", [1, 4, 5]),
    ]
    assert found.changed() == {"finetune.optimizer": ["muon", "adamw"]}
    one = next(one for one in found.metrics if one.metric == "exact_match")
    first, second = one.spreads
    assert (first.mean, first.lowest, first.highest, first.seeds) == (21 / 40, 0.5, 0.55, 3)
    (against,) = one.groups_against
    assert against.difference.value == pytest.approx(second.mean - first.mean)
    assert against.verdict == "better" and not one.against
    # Equal in all runs: nothing to test, and nothing said of it.
    same = next(one for one in found.metrics if one.metric == "perplexity")
    assert same.groups_against[0].verdict == "not tested"
    assert json.loads(json.dumps(found.summary()))["groups"][0]["name"] == "muon-*"

    page = tmp_path / "page.html"
    assert main(["compare", *map(str, runs), "--output", str(page)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Welch" in said and "0.500 … 0.550" in said and "optimizer muon → adamw" in said
    assert "Not tested: a test needs two seeds in each group" in said
    assert "Welch" in page.read_text(encoding="utf-8")


def test_one_seed_a_group_is_not_tested(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    runs = _two_groups(tmp_path, model, tokenizer)
    found = compare([*runs[:3], runs[3]])
    assert [one.name for one in found.groups] == ["muon-*", "adamw-0"]
    assert {one.groups_against[0].verdict for one in found.metrics} == {"not tested"}
    write_comparison_page(tmp_path / "page.html", found)
    assert "not tested in 4" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_seed_alone_is_no_result(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, right in ((1, 5), (3, 40)):
        _write(tmp_path / f"run-{seed}", model, tokenizer, right, settings={"seed": seed})
    runs = [tmp_path / "run-1", tmp_path / "run-3"]
    page = tmp_path / "page.html"
    assert main(["compare", *map(str, runs), "--output", str(page)]) == 0
    said = capsys.readouterr().out
    assert "differ in nothing but the seed" in said and "seed 1, 3" in said
    for shown in (said, page.read_text(encoding="utf-8")):
        assert "Holm" not in shown and "verdict" not in shown
    found = compare(runs)
    assert not any(one.against or one.groups_against for one in found.metrics)


def test_one_run_a_side_says_what_it_cannot_tell(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = _two_groups(tmp_path, model, tokenizer)
    # The same run twice is no group of seeds either.
    page = tmp_path / "page.html"
    for other in (runs[3], runs[0] / "evaluate"):
        assert main(["compare", str(runs[0]), str(other), "--output", str(page)]) == 0
        said = capsys.readouterr().out
        assert "Another seed alone may move" in said and "docs/research.md" in said
        assert "Another seed alone may move" in page.read_text(encoding="utf-8")
        assert ("optimizer muon → adamw" in said) == (other == runs[3])


def test_perplexity_and_bits_per_byte_are_one_test(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    _write(tmp_path / "a", model, tokenizer, 10)
    _write(tmp_path / "b", model, tokenizer, 14, nats=1.99)
    found = {
        one.metric: one.against[0] for one in compare([tmp_path / "a", tmp_path / "b"]).metrics
    }
    likelihood = max(found[name].difference.p for name in ("perplexity", "bits_per_byte"))
    others = [found[name].difference.p for name in ("exact_match", "bleu")]
    expected = holm([likelihood, *others])
    assert [found[name].adjusted for name in ("perplexity", "exact_match", "bleu")] == expected
    assert found["bits_per_byte"].adjusted == expected[0]


def test_each_refusal_has_its_own_reason(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    _write(tmp_path / "a", model, tokenizer, 5, name="held-out answers")
    _write(tmp_path / "base", model, tokenizer, 5, stage="pretrain")
    _write(tmp_path / "rows", model, tokenizer, 5, rows=[_other(ROWS[0])], text="another")
    _write(tmp_path / "old", model, tokenizer, 5, rows=[_other(ROWS[0])])
    for name, change in (("old", {"held_out": {"text_sha256": None}}), ("base", {"tasks": {}})):
        _change(tmp_path / name / "evaluate" / "results.json", change)
    (tmp_path / "base" / "evaluate" / "predictions.jsonl").write_text("", encoding="utf-8")
    _write(tmp_path / "b", model, tokenizer, 5)
    for one, other, fact, remedy in [
        ("base", "a", "base was measured on held-out text and a on held-out answers", "--stage"),
        ("b", "rows", "say: the runs answered different questions", "the same data"),
        ("b", "rows", "held-out text: not the same text", "for validation"),
        ("b", "old", "held-out text: it is not recorded which text", "runs again"),
    ]:
        with pytest.raises(DataError, match=fact) as caught:
            compare([tmp_path / one, tmp_path / other])
        assert remedy in caught.value.remedy and "no task" not in caught.value.fact
    found = compare([tmp_path / "base", tmp_path / "b"])
    assert {one.metric for one in found.metrics} == {"perplexity", "bits_per_byte"}
    # A note of what is not compared, where something is.
    _change(tmp_path / "old" / "evaluate" / "results.json", {"held_out": None})
    with pytest.raises(DataError, match="held-out text: not measured in every run"):
        compare([tmp_path / "base", tmp_path / "old"])


def test_texts_of_equal_length_are_not_one(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    _write(tmp_path / "a", model, tokenizer, 5)
    _write(tmp_path / "b", model, tokenizer, 5, text="another")
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert {one.task for one in found.metrics} == {"say"}
    assert "held-out text: not the same text in every run, and not compared" in found.notes
    assert not any("tokenizers" in note for note in found.notes)
    assert found.settings is None and "a: its settings are not recorded" in "".join(found.notes)
    _write(tmp_path / "c", model, tokenizer, 5)
    _change(tmp_path / "c" / "evaluate" / "results.json", {"tokenizer_sha256": "another"})
    found = compare([tmp_path / "a", tmp_path / "c"])
    assert "bits_per_byte" in {one.metric for one in found.metrics}
    assert any("different tokenizers" in note for note in found.notes)


def _other(row: TaskRow) -> TaskRow:
    return TaskRow((Message("user", "Something else"),), row.references, row.place)


def _change(path: Path, change: dict[str, Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    for key, value in change.items():
        merged = isinstance(value, dict) and value and isinstance(content[key], dict)
        content[key] = {**content[key], **value} if merged else value
    path.write_text(json.dumps(content), encoding="utf-8")
