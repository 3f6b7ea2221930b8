"""Several processes at one task: joining them, and what they tell each other.

Everything here does nothing, at no cost, in a process that works alone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from chatgpt_cli.errors import ChatGPTError, ConfigError, ProcessLost, ProcessMissing, TrainingError
from chatgpt_cli.lock import run_lock
from chatgpt_cli.ranks import this_rank
from chatgpt_cli.training.meeting import meet

S = TypeVar("S")
T = TypeVar("T")

# Where a process leaves word for the others when it gives up. It does so before it closes
# its connections, so whoever sees one closed need not wait for long (seconds).
_REFUSAL = "chatgpt/refusal"
_PATIENCE = 1.0
# What Gloo and NCCL say of a process that is gone.
_LOST = ("onnection closed", "onnection reset", "onnection refused", "roken pipe", "imed out",
         "imeout", "NCCL", "Socket", "ProcessGroup")  # fmt: skip


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def process_group(*, timeout: float) -> Iterator[Store | None]:
    """Be one of the processes that torchrun started, until the block ends.

    Tensors on a GPU travel by NCCL, those of the CPU by Gloo. Yields where the processes
    leave word for each other, None if there is but this one.

    Args:
        timeout: seconds after which waiting for another process is given up.

    Raises:
        TrainingError: what another process gave up for, where this one only noticed that
            the other is gone.
        ProcessLost: if another one is gone without a word.
        ProcessMissing: if it never came.
        ConfigError: if a variable that torchrun sets is missing.
    """
    me = this_rank()
    if me.count == 1 or dist.is_initialized():
        yield None
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(me.local % torch.cuda.device_count())
    store, number, count = _common_store(timeout)
    store = meet(store, number, count, timeout=timeout)
    try:
        # Others may be done with this, and have given up, before this one is.
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            store=store,
            rank=number,
            world_size=count,
            timeout=timedelta(seconds=timeout),
        )
        yield store
    except ChatGPTError as error:
        _leave_word(store, error.fact, error.place, error.remedy)
        raise
    except Exception as error:
        if not _is_loss(error):
            _leave_word(store, f"process {number} failed: {type(error).__name__}: {error}")
            raise
        raise _refusal(store) or ProcessLost(
            f"another process is gone, or does not answer ({str(error).splitlines()[0]})",
            place=f"process {number} of {count}",
            remedy="The last checkpoint is intact: torchrun, or --nproc, goes on from there "
            "by itself; else continue with --resume.",
        ) from error
    finally:
        # The others may be gone, and what is left of the group ends with the process.
        if dist.is_initialized():
            with suppress(RuntimeError):
                dist.destroy_process_group()


def _common_store(timeout: float) -> tuple[Store, int, int]:
    """Where all processes meet, as the variables of torchrun name it; this rank, their number."""
    try:
        store, number, count = next(iter(rendezvous("env://", timeout=timedelta(seconds=timeout))))
    except ValueError as error:
        raise ConfigError(
            f"what torchrun tells its processes is incomplete ({error})",
            remedy="Start them with torchrun or --nproc, or set what is missing.",
        ) from error
    except RuntimeError as error:
        raise ProcessMissing(
            f"the processes did not find each other ({str(error).splitlines()[0]})",
            place=f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
            remedy="See whether all of them run. The first one must run on MASTER_ADDR, where "
            "MASTER_PORT must be free, and open to the others.",
        ) from error
    return store, number, count


def _is_loss(error: Exception) -> bool:
    """Whether an error comes from talking with a process that is no longer there."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _LOST)


def _leave_word(
    store: Store, fact: str, place: str | None = None, remedy: str | None = None
) -> None:
    with suppress(dist.DistStoreError, RuntimeError):
        store.set(_REFUSAL, json.dumps([fact, place, remedy]))


def _refusal(store: Store) -> TrainingError | None:
    """What another process gave up for, if it did."""
    deadline = time.monotonic() + _PATIENCE
    with suppress(dist.DistStoreError, RuntimeError, ValueError):
        while True:
            late = time.monotonic() > deadline
            if store.check([_REFUSAL]):
                break
            if late:
                return None
            time.sleep(_PATIENCE / 20)
        fact, place, remedy = json.loads(store.get(_REFUSAL))
        return TrainingError(fact, place=place, remedy=remedy)
    return None


def total(values: Sequence[float]) -> list[float]:
    """The sum of each value over all processes, in float64; the same bits in all of them."""
    if world_size() == 1:
        return list(values)
    summed = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(summed)
    return [float(one) for one in summed]


def gather(value: T) -> list[T]:
    """What each process says, by rank. (Among our own processes objects may be pickled.)"""
    if world_size() == 1:
        return [value]
    said: list[T | None] = [None] * world_size()
    dist.all_gather_object(said, value)
    return said  # type: ignore[return-value]


def agree(value: T) -> T:
    """What the first process says."""
    if world_size() == 1:
        return value
    said = [value if rank() == 0 else None]
    dist.broadcast_object_list(said, src=0)
    return said[0]  # type: ignore[return-value]


def on_first(work: Callable[[], T]) -> T:
    """Let the first process do it, and all have what came of it.

    Raises:
        ChatGPTError: in every process, what it raised in the first.
    """
    if world_size() == 1:
        return work()
    value, error = None, None
    if rank() == 0:
        try:
            value = work()
        except ChatGPTError as raised:
            error = raised
    value, error = agree((value, error))
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


@contextmanager
def locked(folder: Path, command: str) -> Iterator[None]:
    """The first process holds a folder, as `run_lock` does, for all of them.

    Raises:
        ChatGPTError: in every process, if another command holds it.
    """
    with ExitStack() as held:
        on_first(lambda: held.enter_context(run_lock(folder, command)))
        yield


def dealt(items: Sequence[S], work: Callable[[list[S]], list[T]]) -> list[T]:
    """What `work` makes of each item, in order; item i is done by rank i % ranks."""
    return interleaved(gather(work(list(items[rank() :: world_size()]))))


def interleaved(parts: list[list[T]]) -> list[T]:
    """Items dealt out to the processes in turn (item i to rank i % ranks), in their order."""
    count = sum(map(len, parts))
    return [parts[index % len(parts)][index // len(parts)] for index in range(count)]
