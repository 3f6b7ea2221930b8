"""Training in several processes: the same losses as in one, and any number can go on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.data.preprocess import preprocess
from chatgpt_cli.training.distributed import process_group
from chatgpt_cli.training.events import Evaluated, Event, StepDone
from chatgpt_cli.training.finetune import finetune
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
        runs = [("pretrain", steps(20, where, *kind, *more)) for kind, _, more in group]
        said = run(ranks, _several, folder, runs)
        for number, (kind, _, more) in enumerate(group):
            found[ranks, kind + more] = [one[number] for one in said]
    return found


@pytest.mark.parametrize("kind", [ADAMW, MUON])
def test_losses_are_those_of_one_process(kind: tuple[str, ...], losses: Any) -> None:
    [expected] = losses[1, kind]
    assert len(expected) == 22
    others = [key for key in losses if key[0] > 1 and key[1][:1] == kind]
    assert len(others) >= 4
    for key in others:
        for told in losses[key]:
            assert told == pytest.approx(expected, rel=TOLERANCE[kind]), key
