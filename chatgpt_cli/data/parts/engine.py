"""Tasks run by worker processes of this machine, or by a Ray cluster.

A task leaves a folder of results that appears under its name when it is whole, and has
nothing to do when that is there. So an engine need not remember anything, and whatever it
does not come to is done by the next run. What was tried stands in docs/preprocessing.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from pathlib import Path
from typing import Any

from chatgpt_cli.data.workers import worker_pool
from chatgpt_cli.errors import ChatGPTError, ConfigError

# A function of a module that does task number so-and-so in a folder.
Task = Callable[[Path, int], None]


def run_here(task: Task, folder: Path, numbers: Sequence[int], workers: int) -> None:
    """Do tasks by worker processes of this machine, or by this process if one is enough.

    Raises:
        ChatGPTError: what the first task raised that failed; those that have not begun are
            left out.
    """
    if min(workers, len(numbers)) <= 1:
        for number in numbers:
            task(folder, number)
        return
    with worker_pool(min(workers, len(numbers))) as pool:
        waiting = [pool.submit(task, folder, number) for number in numbers]
        done, _ = wait(waiting, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()


def run_on_ray(task: Task, folder: Path, numbers: Sequence[int], workers: int) -> None:
    """Do tasks on the Ray cluster that RAY_ADDRESS names, else on one started here.

    Its machines must see `folder` and the text under the same names. A task whose worker or
    machine dies is tried again.

    Raises:
        ConfigError: if Ray is not installed.
        ChatGPTError: what the first task raised that failed.
    """
    if not numbers:
        return
    ray = _ray(workers)
    remote = ray.remote(num_cpus=1, max_retries=3)(task)
    waiting = [remote.remote(folder, number) for number in numbers]
    try:
        while waiting:
            done, waiting = ray.wait(waiting)
            ray.get(done)
    except ray.exceptions.RayTaskError as error:
        for one in waiting:
            ray.cancel(one)
        if isinstance(error.cause, ChatGPTError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise ChatGPTError(
            f"Ray could not do all parts ({type(error).__name__})",
            place="data.engine",
            remedy="Run the command again: finished parts are kept. See `ray status`, too.",
        ) from error


def _ray(workers: int) -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "the package ray is not installed",
            place="data.engine",
            remedy="Install it with: pip install 'chatgpt-cli[ray]'",
        ) from error
    if not ray.is_initialized():
        quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if "RAY_ADDRESS" in os.environ:
            ray.init(**quiet)
        else:
            # Results go through files, so the store of objects can be as small as it gets.
            ray.init("local", num_cpus=workers, object_store_memory=80_000_000, **quiet)
    return ray
