"""Training in several processes: the same losses as in one, and any number can go on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from chatgpt_cli.checkpoints import damage, list_checkpoints
from chatgpt_cli.cli.main import main
from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.data.preprocess import preprocess
from chatgpt_cli.errors import TrainingError
from chatgpt_cli.interop.huggingface import load_model
from chatgpt_cli.training.distributed import process_group
from chatgpt_cli.training.events import Evaluated, Event, StepDone
from chatgpt_cli.training.finetune import finetune
from chatgpt_cli.training.metrics_log import read_metrics
from chatgpt_cli.training.prefer import prefer
from chatgpt_cli.training.pretrain import pretrain
from chatgpt_cli.training.start import Mode
from tests.conftest import write_project
from tests.distributed.processes import run

STAGES = {"pretrain": pretrain, "finetune": finetune, "prefer": prefer}
ADAMW, MUON = ("pretrain.optimizer=adamw",), ("pretrain.optimizer=muon",)
DDP, FSDP = ("hardware.parallel=ddp",), ("hardware.parallel=fsdp",)
# Sums are added in another order; Muon rounds what it orthogonalises to bfloat16.
TOLERANCE = {ADAMW: 1e-6, MUON: 1e-3}


def train(folder: Path, stage: str, *overrides: str, mode: Mode = "restart") -> list[float]:
    """All losses of a run, of steps and evaluations, as this process was told them."""
    config = load_config(folder / "chatgpt.yaml", list(overrides)).config
    losses = []

    def observe(event: Event) -> None:
        if isinstance(event, StepDone | Evaluated):
            losses.append(event.loss)

    with process_group(timeout=60):
        STAGES[stage](config, RunPaths(config.run_dir), mode=mode, observe=observe)
    return losses


def steps(count: int, *more: str) -> tuple[str, ...]:
    return (
        f"pretrain.budget={count} steps", "pretrain.eval_every=10", "pretrain.save_every=10",
        "pretrain.schedule=constant", *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with preprocessed text and a base model."""
    made = write_project(tmp_path_factory.mktemp("project"))
    config = load_config(made / "chatgpt.yaml", []).config
    preprocess(config, RunPaths(config.run_dir), force=False, tell=lambda _: None)
    train(made, "pretrain")
    return made


def of_another_run(folder: Path, name: str) -> str:
    """A run directory of its own with the same text; the override that names it."""
    target = folder / name
    for part in ("tokenizer", "data"):
        shutil.copytree(folder / "run" / part, target / part, dirs_exist_ok=True)
    return f"run_dir={target}"


def _several(folder: Path, runs: list[tuple[str, tuple[str, ...]]]) -> list[list[float]]:
    """Runs one after another in one group of processes."""
    with process_group(timeout=60):
        return [train(folder, stage, *overrides) for stage, overrides in runs]


@pytest.fixture(scope="module")
def losses(folder: Path) -> dict[tuple[int, tuple[str, ...]], Any]:
    """What each of 1, 2 and 4 processes was told, by their number and the overrides."""
    alone = [(kind, 1, ()) for kind in (ADAMW, MUON)]
    two = [(kind, 2, more) for kind in (ADAMW, MUON) for more in (DDP, FSDP)]
    two.append((ADAMW, 2, (*FSDP, "pretrain.micro_batch_size=1")))
    two.append((ADAMW, 2, (*DDP, "pretrain.micro_batch_size=1")))
    four = [(ADAMW, 4, DDP), (MUON, 4, FSDP)]
    three = [(MUON, 3, FSDP)]
    found: dict[tuple[int, tuple[str, ...]], Any] = {}
    for group in (alone, two, four, three):
        ranks = group[0][1]
        where = of_another_run(folder, f"run-{ranks}")
        # At a low rate differences of rounding do not grow within these steps.
        same = (
            "pretrain.eval_every=20", "pretrain.save_every=20", "pretrain.learning_rate=0.003",
        )  # fmt: skip
        runs = [("pretrain", steps(20, where, *same, *kind, *more)) for kind, _, more in group]
        said = run(ranks, _several, folder, runs)
        for number, (kind, _, more) in enumerate(group):
            found[ranks, kind + more] = [one[number] for one in said]
    return found


@pytest.mark.parametrize("kind", [ADAMW, MUON])
def test_losses_are_those_of_one_process(kind: tuple[str, ...], losses: Any) -> None:
    [expected] = losses[1, kind]
    assert len(expected) == 21
    others = [key for key in losses if key[0] > 1 and key[1][:1] == kind]
    assert len(others) >= 4
    for key in others:
        for told in losses[key]:
            assert told == pytest.approx(expected, rel=TOLERANCE[kind]), key


def _recorded(folder: Path) -> list[tuple[str, int, float]]:
    records = read_metrics(folder / "pretrain" / "metrics.jsonl")
    return [(one["type"], one["step"], one["loss"]) for one in records if "loss" in one]


def test_any_number_of_processes_goes_on(folder: Path) -> None:
    """Two processes begin, four go on, one ends: with the losses of one throughout."""
    where = of_another_run(folder, "reshard")
    common = ("pretrain.eval_every=5", "pretrain.warmup_fraction=0", *ADAMW, *FSDP)
    alone = of_another_run(folder, "reshard-alone")
    train(folder, "pretrain", *steps(15, alone, *common))
    for ranks, until in ((2, 5), (4, 10), (1, 15)):
        run(ranks, train_on, folder, steps(until, where, *common))
    stage = RunPaths(folder / "reshard").pretrain
    names = {
        path.name: (path / "training_state/shards").is_dir() for path in list_checkpoints(stage)
    }
    assert names == {"step-00000010": True, "step-00000015": False}
    expected, found = _recorded(folder / "reshard-alone"), _recorded(folder / "reshard")
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    values = [one[2] for one in expected]
    assert [one[2] for one in found] == pytest.approx(values, rel=TOLERANCE[ADAMW])


def train_on(folder: Path, overrides: tuple[str, ...]) -> list[float]:
    return train(folder, "pretrain", *overrides, mode="resume")


def _interrupted(folder: Path, straight: tuple[str, ...], halves: list[tuple[str, ...]]) -> None:
    with process_group(timeout=60):
        train(folder, "pretrain", *straight)
        for part in halves:
            train_on(folder, part)


def test_the_same_number_goes_on_to_the_same_bits(folder: Path) -> None:
    """With parts, Muon and dropout, which draws other numbers in each process."""
    common = (*FSDP, "pretrain.dropout=0.2", "pretrain.warmup_fraction=0", "pretrain.eval_every=4")
    straight, halves = of_another_run(folder, "straight"), of_another_run(folder, "halves")
    run(
        2, _interrupted, folder, steps(8, straight, *common),
        [steps(4, halves, *common), steps(8, halves, *common)],
    )  # fmt: skip
    assert _recorded(folder / "halves") == _recorded(folder / "straight")
    one, other = (
        list_checkpoints(RunPaths(folder / name).pretrain)[-1] for name in ("straight", "halves")
    )
    assert damage(one) is None
    assert load_model(one).config.num_layers == 2
    files = sorted(path.relative_to(one) for path in one.rglob("*.safetensors"))
    assert len(files) == 4
    for name in files:
        weights, others = load_file(one / name), load_file(other / name)
        assert weights.keys() == others.keys()
        assert all(torch.equal(value, others[key]) for key, value in weights.items()), name


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        ("finetune", (*FSDP, "finetune.replay=0.3", "finetune.freeze_layers=1")),
        ("finetune", (*DDP, "finetune.lora={rank: 2}")),
        ("prefer", DDP),
    ],
)
def test_other_stages_learn_the_same(folder: Path, stage: str, more: tuple[str, ...]) -> None:
    common = (f"{stage}.eval_every=6", f"{stage}.save_every=12", f"{stage}.optimizer=adamw", *more)
    expected = train(folder, stage, *common)
    [first, second] = run(2, train, folder, stage, *common)
    assert first == second == pytest.approx(expected, rel=1e-5)
    shutil.rmtree(folder / "run" / stage)


def test_a_part_that_cannot_be_written_ends_all(folder: Path) -> None:
    """The disk is full where one process writes: all are told, what was saved stays."""
    where = of_another_run(folder, "full")
    said = run(2, _fails, folder, steps(12, where, *FSDP, "pretrain.save_every=4"))
    assert all("step 8 could not be written" in one and "No space" in one for one in said), said
    stage = RunPaths(folder / "full").pretrain
    [kept] = list_checkpoints(stage)
    assert kept.name == "step-00000004" and damage(kept) is None


def _fails(folder: Path, overrides: tuple[str, ...]) -> str:
    import chatgpt_cli.training.shards as shards

    plain = shards.HuggingFaceStorageWriter.write_data

    def full(self: Any, plan: Any, planner: Any) -> Any:
        if "00000008" in str(self.path) and os.environ["RANK"] == "1":
            raise OSError(28, "No space left on device")
        return plain(self, plan, planner)

    shards.HuggingFaceStorageWriter.write_data = full  # type: ignore[method-assign]
    try:
        train(folder, "pretrain", *overrides)
    except TrainingError as error:
        return str(error)
    return "nothing was raised"


def test_evaluation_is_that_of_one_process(folder: Path) -> None:
    """Answers, scores and losses; an answer's probability but for rounding."""
    train(folder, "finetune")
    rows_file = str(folder / "rows.jsonl")
    tasks = [
        {"name": "say", "data": rows_file, "metrics": ["exact_match"], "max_tokens": 8},
        {"name": "drawn", "data": rows_file, "metrics": ["bleu"], "temperature": 1.0,
         "max_tokens": 6},
        {"name": "choice", "data": f"{folder}/pairs.jsonl", "metrics": ["accuracy"],
         "answer": "choice"},
    ]  # fmt: skip
    options = [
        "--config",
        str(folder / "chatgpt.yaml"),
        "--set",
        f"evaluate.tasks={json.dumps(tasks)}",
    ]
    found = []
    for ranks in (1, 2):
        assert set(run(ranks, main, ["evaluate", *options])) == {0}
        results = json.loads((folder / "run/evaluate/results.json").read_text(encoding="utf-8"))
        for task in results["tasks"].values():
            del task["seconds"]
        text = (folder / "run/evaluate/predictions.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines()]
        found.append((results, rows))
    shutil.rmtree(folder / "run" / "finetune")
    (alone, rows), (results, others) = found
    assert results == alone
    assert len(rows) == len(others) == 2 * 156 + 65
    for row, other in zip(rows, others, strict=True):
        for key in ("confidence", "likelihoods"):
            assert other.pop(key, 0.0) == pytest.approx(row.pop(key, 0.0), rel=1e-4)
        assert row == other
