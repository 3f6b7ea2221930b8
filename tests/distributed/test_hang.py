"""A process that stands still is found and named, and nobody waits for it for ever."""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.connection import Connection

from chatgpt_cli.errors import ProcessLost
from chatgpt_cli.training.distributed import process_group, total
from chatgpt_cli.training.events import StepDone
from chatgpt_cli.training.hang import watching
from tests.distributed.processes import environment, free_port
from tests.forked import CONTEXT


def _work(variables: dict[str, str], said: Connection, stuck: int, how: str) -> None:
    os.environ.update(variables)
    rank = int(variables["RANK"])
    # An answer may take a quarter of it: on a busy machine that should not be too little.
    timeout = 4.0
    try:
        with process_group(timeout=60) as store, watching(store, timeout, said.send) as watch:
            for step in range(1, 10):
                if rank == stuck and step == 4:
                    if how == "stopped":
                        os.kill(os.getpid(), signal.SIGSTOP)
                    signal.pause()
                total([1.0])
                watch(StepDone(step, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, False))
    except ProcessLost as error:
        # Another one ended first.
        sys.exit(error.exit_code)


def _hanging(stuck: int, how: str) -> str:
    """What is said in the end, when one of three processes stops in its fourth step."""
    port = free_port()
    receiver, sender = CONTEXT.Pipe(duplex=False)
    processes = [
        CONTEXT.Process(target=_work, args=(environment(rank, 3, port), sender, stuck, how))
        for rank in range(3)
    ]
    for process in processes:
        process.start()
    for rank, process in enumerate(processes):
        if rank != stuck or how == "waits":
            process.join()
            assert process.exitcode == ProcessLost.exit_code
    processes[stuck].kill()
    processes[stuck].join()
    said = receiver.recv()
    assert f"number {processes[stuck].pid} on" in said
    return str(said)


def test_a_stopped_process_is_named() -> None:
    assert "process 2 (" in _hanging(2, "stopped")


def test_one_that_waits_for_something_else_is_named() -> None:
    """It can still say where it is, and that is not where processes wait for each other."""
    said = _hanging(1, "waits")
    assert said.startswith("process 1 (") and "test_hang.py, line" in said
