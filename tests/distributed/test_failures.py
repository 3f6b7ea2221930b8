"""`chatgpt pretrain --nproc 2` when a process dies, and when all are asked to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chatgpt_cli.checkpoints import damage, list_checkpoints
from chatgpt_cli.cli.main import main
from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.data.preprocess import preprocess
from chatgpt_cli.training.metrics_log import read_metrics
from tests.distributed.processes import run

if not Path("/proc/self/task").is_dir():
    pytest.skip("processes are looked for in /proc", allow_module_level=True)

SETTINGS = (
    "pretrain.optimizer=adamw", "pretrain.schedule=constant", "pretrain.warmup_fraction=0",
    "pretrain.eval_every=100000", "pretrain.save_every=5", "pretrain.early_stopping=0",
    # Small: how many steps are compared is open, and differences in rounding grow with them.
    "pretrain.learning_rate=0.0003",
)  # fmt: skip


def _options(*more: str) -> list[str]:
    return [part for one in (*SETTINGS, *more) for part in ("--set", one)]


def _second_process(parent: int, run_dir: Path) -> int:
    """The process that does not hold the run directory."""
    first = json.loads((run_dir / ".lock").read_text(encoding="utf-8"))["pid"]
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="utf-8").split()
    [second] = [
        int(one)
        for one in children
        if int(one) != first and b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()
    ]
    return second


def test_a_killed_process_is_made_good_for_and_sigterm_saves(project: Path) -> None:
    config = load_config(project / "chatgpt.yaml", []).config
    paths = RunPaths(config.run_dir)
    preprocess(config, paths, force=False, tell=lambda _: None)
    stage = paths.pretrain
    process = subprocess.Popen(
        [sys.executable, "-m", "chatgpt_cli", "pretrain", "--nproc", "2",
         *_options("pretrain.budget=100000 steps")],
        cwd=project,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )  # fmt: skip

    def wait_for(step: int) -> None:
        while process.poll() is None:
            folders = list_checkpoints(stage)
            if folders and int(folders[-1].name.removeprefix("step-")) >= step:
                return
            time.sleep(0.01)

    wait_for(5)
    killed = list_checkpoints(stage)[-1].name
    os.kill(_second_process(process.pid, paths.root), signal.SIGKILL)
    wait_for(int(killed.removeprefix("step-")) + 10)
    process.terminate()
    output, _ = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "new start 1, from the last checkpoint" in output
    assert "everything is saved" in output and "--nproc 2 --resume" in output
    assert [path.name for path in paths.root.rglob(".*")] == []
    records = read_metrics(stage.metrics)
    starts = [one["step"] for one in records if one["type"] == "start"]
    assert starts[0] == 0 and len(starts) == 2 and starts[1] >= 5
    newest = list_checkpoints(stage)[-1]
    last = int(newest.name.removeprefix("step-"))
    assert damage(newest) is None and last == records[-1]["step"]

    budget = f"pretrain.budget={last + 3} steps"
    command = ["pretrain", "--config", str(project / "chatgpt.yaml"), *_options(budget)]
    alone = [*command, "--set", f"run_dir={project / 'alone'}"]
    (project / "alone").mkdir()
    for name in ("tokenizer", "data"):
        (project / "alone" / name).symlink_to(paths.root / name)
    assert run(1, main, [*command, "--resume"]) == run(1, main, alone) == [0]
    undisturbed = RunPaths(project / "alone").pretrain
    losses, expected = (
        [one["loss"] for one in read_metrics(one.metrics) if one["type"] == "train"]
        for one in (stage, undisturbed)
    )
    assert len(losses) == last + 3
    assert losses == pytest.approx(expected, rel=1e-5)
