"""Commands in processes of their own, forked from one that has PyTorch loaded already.

Each is as real a process as one started from a shell, and can be killed like one, but
begins in milliseconds: so fifty of them can be.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from chatgpt_cli.checkpoints import list_checkpoints
from chatgpt_cli.config.paths import RunPaths, StagePaths
from chatgpt_cli.files import sha256
from chatgpt_cli.training.metrics_log import read_metrics
from tests.forked import CONTEXT


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, and all that it wrote."""

    code: int
    text: str

    @property
    def is_clear(self) -> bool:
        """Done, or refused with a message for people."""
        bad = ("Traceback", "this is a bug", "Segmentation fault")
        if any(word in self.text for word in bad):
            return False
        return self.code == 0 or (self.code in (1, 2, 130, 143) and "Error: " in self.text)


def start(folder: Path, *arguments: str) -> BaseProcess:
    """Begin `chatgpt ARGUMENTS` in a folder; what it writes goes to `output.txt` there."""
    process = CONTEXT.Process(target=_command, args=(str(folder), arguments))
    process.start()
    return process


def _command(folder: str, arguments: tuple[str, ...]) -> None:
    os.chdir(folder)
    descriptor = os.open("output.txt", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    from chatgpt_cli.cli.main import run

    sys.argv = ["chatgpt", *arguments]
    run()


def end(process: BaseProcess, folder: Path) -> Outcome:
    """Wait for a command."""
    process.join()
    assert process.exitcode is not None
    text = (folder / "output.txt").read_text(encoding="utf-8", errors="replace")
    return Outcome(process.exitcode, text)


def chatgpt(folder: Path, *arguments: str) -> Outcome:
    """Run `chatgpt ARGUMENTS` in a folder to its end."""
    return end(start(folder, *arguments), folder)


def succeed(folder: Path, *arguments: str) -> Outcome:
    """As `chatgpt`, and it must work."""
    outcome = chatgpt(folder, *arguments)
    assert outcome.code == 0, outcome.text
    return outcome


def kill_when(process: BaseProcess, reached: Callable[[], bool]) -> bool:
    """`kill -9` as soon as `reached` says so; False if the process ended before."""
    while process.exitcode is None:
        if reached():
            process.kill()
            process.join()
            return process.exitcode == -9
        time.sleep(0.001)
    return False


def processor_seconds(process: BaseProcess) -> float:
    """What a process has computed so far: on a busy machine the clock tells nothing."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    except OSError:
        return 0.0
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def copy(folder: Path, target: Path) -> Path:
    """A fresh copy of a prepared project; its configuration names relative paths."""
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(folder, target, symlinks=True))


def final_state(folder: Path, stage: str) -> dict[str, object]:
    """Hashes of the last weights and of the optimizer, and all losses that were recorded."""
    files = StagePaths(RunPaths(folder / "run").root / stage)
    newest = list_checkpoints(files)[-1]
    best = files.pointed(files.best)
    return {
        "checkpoint": newest.name,
        "weights": sha256(newest / "model.safetensors"),
        "state": sha256(newest / "training_state" / "state.safetensors"),
        "best": None if best is None else best.name,
        "losses": [
            (record["type"], record["step"], record["loss"])
            for record in read_metrics(files.metrics)
            if "loss" in record
        ],
    }
