"""A program run on its own: how long it took and how much memory it held.

It is started by a small process between (`python -m benchmarks.process LOG COMMAND...`):
the system counts the memory of the process that starts a program, until it has started,
as the program's, and a benchmark may hold a gigabyte of text.
"""

from __future__ import annotations

import json
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
    between = [sys.executable, "-m", "benchmarks.process", str(log), *command]
    answer = subprocess.run(between, stdout=subprocess.PIPE, text=True)
    output = log.read_text(encoding="utf-8", errors="replace")
    if answer.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{output[-3000:]}")
    return Finished(output=output, **json.loads(answer.stdout))


def _measure(log: Path, command: list[str]) -> int:
    """Run the command, print what it took as JSON, return its exit code."""
    start = time.perf_counter()
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
        # wait4 alone tells the memory of this one process and its children.
        _, status, usage = os.wait4(process.pid, 0)
    taken = {
        "seconds": time.perf_counter() - start,
        # Kilobytes on Linux, bytes on macOS.
        "peak_mb": usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }
    print(json.dumps(taken))
    return 1 if status else 0


def chatgpt(*arguments: str) -> list[str]:
    """The command line of this project's program, in this environment; it speaks English."""
    return [sys.executable, "-m", "chatgpt_cli", *arguments, "--lang", "en"]


def module(name: str, *arguments: str) -> list[str]:
    """The command line of a module of the benchmarks."""
    return [sys.executable, "-m", f"benchmarks.{name}", *arguments]


if __name__ == "__main__":
    sys.exit(_measure(Path(sys.argv[1]), sys.argv[2:]))
