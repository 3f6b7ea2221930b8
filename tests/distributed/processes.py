"""Several processes at one task, forked from one that has PyTorch loaded already."""

from __future__ import annotations

import os
import secrets
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from tests.forked import CONTEXT


def free_port() -> int:
    """A TCP port that nobody listens on, below those that the system gives out by itself."""
    while True:
        port = 12_000 + secrets.randbelow(20_000)
        with suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            return port


def environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What torchrun would tell a process of one machine."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def run(ranks: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(*arguments)` returns in each of so many processes, by rank.

    Raises:
        AssertionError: with the traceback of the first that failed.
    """
    port = free_port()
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(ranks)]
    processes = [
        CONTEXT.Process(target=_run, args=(environment(rank, ranks, port), pipe, work, arguments))
        for rank, (_, pipe) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for _, pipe in pipes:
        pipe.close()
    results, failures = [], []
    for receiver, _ in pipes:
        try:
            result, failure = receiver.recv()
        except EOFError:
            result, failure = None, "the process died"
        results.append(result)
        failures += [failure] if failure else []
    for process in processes:
        process.join()
    assert not failures, "\n".join(failures)
    return results


def _run(
    variables: dict[str, str], pipe: Connection, work: Callable[..., Any], arguments: Any
) -> None:
    os.environ.update(variables)
    import torch

    torch.set_num_threads(1)
    try:
        pipe.send((work(*arguments), None))
    except BaseException:
        pipe.send((None, traceback.format_exc()))
