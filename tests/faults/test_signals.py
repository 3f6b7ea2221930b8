"""Ctrl-C, SIGTERM and a closed terminal: saved, and the way to go on is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from chatgpt_cli.checkpoints import list_checkpoints
from chatgpt_cli.config.paths import RunPaths
from tests.faults.commands import Outcome, copy, end, final_state, start, succeed

LONG = ("--set", "pretrain.budget=100000 steps", "--set", "pretrain.save_every=20000")


@pytest.fixture
def begin(prepared: Path, tmp_path: Path) -> Path:
    folder = copy(prepared, tmp_path / "begin")
    shutil.rmtree(folder / "run" / "pretrain")
    return folder


def _step(folder: Path) -> int:
    """The last step that was logged."""
    try:
        lines = (folder / "run/pretrain/metrics.jsonl").read_bytes().splitlines()
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except (OSError, ValueError):
        return 0


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_saves_and_tells_how_to_go_on(name: str, begin: Path) -> None:
    process = start(begin, "pretrain", *LONG)
    while process.exitcode is None and _step(begin) < 5:
        process.join(0.001)
    number = getattr(signal, name)
    assert process.pid is not None
    os.kill(process.pid, number)
    outcome = end(process, begin)
    assert outcome.code == 128 + number, outcome.text
    assert "--resume" in outcome.text and "everything is saved" in outcome.text
    [checkpoint] = list_checkpoints(RunPaths(begin / "run").pretrain)[-1:]
    assert f"Stopped at step {int(checkpoint.name[5:])}" in outcome.text
    assert not (begin / "run" / ".lock").exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_second_signal_leaves_at_once_and_nothing_is_half(
    name: str, begin: Path, tmp_path: Path
) -> None:
    whole = copy(begin, tmp_path / "whole")
    succeed(whole, "pretrain")
    number = getattr(signal, name)
    outcome = _signalled_twice(begin, number)
    while outcome.code == 0:
        # On a busy machine it may have ended before the first.
        outcome = _signalled_twice(begin, number)
    assert outcome.code == 128 + number and "Traceback" not in outcome.text, outcome.text
    succeed(begin, "pretrain", "--resume")
    # Should the second have come amid tidying up, the next command has done it.
    assert [path.name for path in (begin / "run").rglob(".*")] == []
    assert final_state(begin, "pretrain") == final_state(whole, "pretrain")


def _signalled_twice(folder: Path, number: int) -> Outcome:
    """Train from the start; signal at the first checkpoint and again once that was noted."""
    stage = RunPaths(folder / "run").pretrain
    shutil.rmtree(stage.root, ignore_errors=True)
    (folder / "output.txt").unlink(missing_ok=True)
    process = start(folder, "pretrain")
    while process.exitcode is None and not list_checkpoints(stage):
        process.join(0.001)
    assert process.pid is not None
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)
        output = folder / "output.txt"
        while process.exitcode is None and "Once more" not in output.read_text(encoding="utf-8"):
            process.join(0.0005)
        os.kill(process.pid, number)
    return end(process, folder)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_that_arrives_in_a_destructor_is_not_lost(name: str) -> None:
    """Python drops what a handler raises there, with a traceback."""
    script = f"""
import os, signal, time
from chatgpt_cli.cli import main

class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        time.sleep(0)
        print("still here")

def command(name, arguments):
    Dropped()
    end = time.monotonic() + 30
    while time.monotonic() < end:
        pass
    return 0

main._call = command
main.run()
"""
    done = subprocess.run([sys.executable, "-c", script, "doctor"], capture_output=True, text=True)
    assert done.returncode == 128 + getattr(signal, name)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_after_the_end_changes_nothing(name: str) -> None:
    """It only shortens the shutting down, in which what a handler raises is lost."""
    script = f"""
import atexit, os, signal, sys
from chatgpt_cli.cli import main

def command(name, arguments):
    # The last registered is the first called.
    atexit.register(print, "not at once", file=sys.stderr)
    atexit.register(os.kill, os.getpid(), signal.{name})
    print("done")
    return 3

main._call = command
main.run()
"""
    done = subprocess.run([sys.executable, "-c", script, "doctor"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "done\n", "")


def test_a_closed_terminal_does_not_end_training(begin: Path) -> None:
    """As with `chatgpt pretrain | head -1`: what cannot be shown is left out."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "chatgpt_cli", "pretrain"],
        cwd=begin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout is not None and process.stderr is not None
    assert "Configuration" in process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.wait()
    assert "Traceback" not in errors, errors
    assert list_checkpoints(RunPaths(begin / "run").pretrain)[-1].name == "step-00000060"
