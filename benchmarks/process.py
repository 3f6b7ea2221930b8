"""A program run on its own: how long it took and how much memory it held."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finished:
    """Seconds of wall clock, the most memory one of its processes held, its output.

    `cpu_seconds` are those of all its processes, which another program hardly changes.
    """

    seconds: float
    peak_mb: float
    output: str
    cpu_seconds: float


def run(command: list[str], *, log: Path) -> Finished:
    """Run a command to its end; its output goes to `log`.

    Raises:
        SystemExit: if it fails, with the end of its output.
    """
    start = time.perf_counter()
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
        # wait4 alone tells the memory of this one process and its children.
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    output = log.read_text(encoding="utf-8", errors="replace")
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{output[-3000:]}")
    # Kilobytes on Linux, bytes on macOS.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Finished(seconds, usage.ru_maxrss / unit, output, cpu_seconds)


def chatgpt(*arguments: str) -> list[str]:
    """The command line of this project's program, in this environment."""
    return [sys.executable, "-m", "chatgpt_cli", *arguments]


def module(name: str, *arguments: str) -> list[str]:
    """The command line of a module of the benchmarks."""
    return [sys.executable, "-m", f"benchmarks.{name}", *arguments]
