"""The plan: what it says comes from the same steps, rows and text that training has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from chatgpt_cli.cli.main import main
from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config, PretrainSection
from chatgpt_cli.planning.advice import advise, compare_sizes
from chatgpt_cli.planning.estimate import StageEstimate, inference_bytes
from chatgpt_cli.planning.rehearsal import StageRehearsal, rehearse
from chatgpt_cli.training.device import Hardware

_SHAPE = ModelConfig(vocab_size=1000)


def _measured(**changed: object) -> StageRehearsal:
    values: dict[str, object] = {
        "name": "pretrain",
        "shape": _SHAPE,
        "hardware": Hardware(torch.device("cpu"), torch.float32, "matmul", False, 2),
        "section": PretrainSection(budget="3 epochs", eval_every=50),  # type: ignore[arg-type]
        "trained": _SHAPE.num_parameters(),
        "batches_per_epoch": 100.5,
        "step_tokens": 8192,
        "micro_batch_size": 32,
        "step_seconds": 2.0,
        "evaluation_seconds": 4.0,
        "save_seconds": 1.0,
        "start_seconds": 20.0,
        "memory": 1_000_000,
    }
    return StageRehearsal(**{**values, **changed})  # type: ignore[arg-type]


def test_the_parts_add_up() -> None:
    estimate = StageEstimate.of(_measured())
    assert estimate.steps == 302  # 3 x 100.5, rounded up
    assert estimate.seconds == pytest.approx(20 + 302 * 2 + 302 / 50 * 5)
    assert estimate.tokens == 302 * 8192
    assert estimate.flops == estimate.tokens * _SHAPE.flops_per_token()
    assert estimate.cost(1.5) == pytest.approx(estimate.seconds / 3600 * 1.5)


@pytest.mark.parametrize(("budget", "steps"), [("70 steps", 70), ("100k tokens", 13)])
def test_budgets_of_other_units(budget: str, steps: int) -> None:
    section = PretrainSection(budget=budget)  # type: ignore[arg-type]
    assert StageEstimate.of(_measured(section=section)).steps == steps


def test_a_budget_of_minutes_holds_all_that_is_done_in_it() -> None:
    section = PretrainSection(budget="10 minutes")  # type: ignore[arg-type]
    estimate = StageEstimate.of(_measured(section=section))
    assert estimate.seconds == 600
    assert 20 + estimate.steps * 2 + 20 * 5 == pytest.approx(600, abs=2)


def test_writing_needs_weights_and_cache() -> None:
    memory = inference_bytes(_SHAPE)
    cache = 2 * 6 * 4 * 64 * 256 * 4
    assert memory["bfloat16"] == 2 * _SHAPE.num_parameters() + cache
    assert memory["int4"] < memory["int8"] < memory["bfloat16"]


def test_more_time_and_text_bear_larger_models() -> None:
    estimate = StageEstimate.of(_measured())
    chosen = []
    for hours, tokens in ((0.1, 10**6), (10, 10**9), (10_000, 10**11)):
        sizes = compare_sizes(Config(), estimate, tokens, 3600.0 * hours)
        (best,) = [one for one in sizes if one.best]
        chosen.append(best.parameters)
        assert all(one.epochs == pytest.approx(one.tokens / tokens) for one in sizes)
    assert chosen == sorted(chosen) and chosen[0] < chosen[-1]


def test_advice_names_what_is_out_of_proportion() -> None:
    config = Config.model_validate({"model": {"preset": "large"}})
    shape = config.model.build(vocab_size=4096)
    measured = _measured(shape=shape, trained=shape.num_parameters(), memory=9 * 10**9)
    estimates = [StageEstimate.of(measured)]
    sizes = compare_sizes(config, estimates[0], 10**6, 3600)
    said = "\n".join(
        advise(config, estimates, sizes, task="chat", text_tokens=10**6, free_memory=8 * 10**9)
    )
    for words in ("expected to learn most", "tokens for each parameter", "smollm2", "are free"):
        assert words in said
    adequate = StageEstimate.of(_measured(batches_per_epoch=9000.0))
    said = "\n".join(
        advise(Config(), [adequate], [], task="text", text_tokens=10**10, free_memory=10**11)
    )
    assert said == ""


def test_a_model_that_speaks_already_is_not_told_to_read_more() -> None:
    settings = {"model": {"from": "smollm2"}, "pretrain": {"budget": "2 epochs"}}
    config = Config.model_validate(settings)
    shape = config.model.build(vocab_size=4096)
    measured = _measured(shape=shape, section=config.pretrain, batches_per_epoch=3.5)
    estimates = [StageEstimate.of(measured)]
    (said,) = advise(config, estimates, [], task="chat", text_tokens=10**6, free_memory=10**12)
    assert said.startswith("pretrain is 7 steps of ") and "smaller pretrain.batch_size" in said


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_it_foretells_the_run_and_leaves_no_trace(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    epochs = ["--set", "pretrain.budget=2 epochs", "--set", "finetune.budget=2 epochs"]
    # What is foretold is the whole budget.
    epochs += ["--set", "pretrain.early_stopping=0"]
    before = _files(project)
    assert main(["plan", "--json", "--price-per-hour", "3", *epochs]) == 0
    assert _files(project) == before
    foretold = json.loads(capfd.readouterr().out)
    assert foretold["cost"] > 0 and len(foretold["sizes"]) == 6
    for stage in foretold["stages"]:
        assert main([*(["preprocess"] if stage["name"] == "pretrain" else ["config"])]) == 0
        assert main([stage["name"], *epochs]) == 0
        capfd.readouterr()
        records = (project / "run" / stage["name"] / "metrics.jsonl").read_text().splitlines()
        steps = json.loads(records[-1])["step"]
        assert stage["steps"] == pytest.approx(steps, rel=0.1, abs=1)
    # With the text preprocessed and nothing to guess, to the step.
    assert main(["plan", "--json", *epochs]) == 0
    again = json.loads(capfd.readouterr().out)
    assert again["stages"][1]["steps"] == steps


def test_batches_of_many_parts_are_measured_in_parts(project: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    path = project / "chatgpt.yaml"
    options = ["pretrain.batch_size=64", "pretrain.micro_batch_size=4", "finetune.data=[]"]
    config = load_config(path, options).config
    rehearsal = rehearse(config, RunPaths(config.run_dir), scratch, lambda _: None)
    (stage,) = rehearsal.stages
    assert stage.micro_batch_size == 4
    assert stage.step_tokens == 64 * 32
    assert stage.step_seconds > 0


def test_there_must_be_something_to_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chatgpt.yaml").write_text("run_dir: run\n", encoding="utf-8")
    assert main(["plan"]) == 2
    assert "nothing to plan" in capfd.readouterr().err
    assert main(["plan", "--task", "poetry"]) == 2
    assert "is not a kind of task" in capfd.readouterr().err
