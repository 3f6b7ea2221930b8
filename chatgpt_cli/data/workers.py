"""Worker processes that end with the process that started them, however that ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any

from chatgpt_cli.errors import ChatGPTError


def processes(workers: int | str) -> int:
    """How many there are to be with the setting `data.workers`."""
    return (os.cpu_count() or 1) if workers == "auto" else int(workers)


@contextmanager
def worker_pool(
    number: int, start: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes, each of which calls `start(*arguments)` first.

    Raises:
        ChatGPTError: if one of them is killed from outside.
    """
    # Forking would copy a process that may have threads; spawning starts a clean one.
    with ProcessPoolExecutor(number, get_context("spawn"), _begin, (start, arguments)) as pool:
        try:
            yield pool
        except BrokenProcessPool as error:
            raise ChatGPTError(
                "a worker process was killed, perhaps because memory ran out",
                place="data.workers",
                remedy=f"Set fewer than {number} workers, and run the command again.",
            ) from error
        except BaseException:
            # What has not begun is not waited for.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start(*arguments)


def _end_with_parent() -> None:
    """A killed parent leaves its workers waiting for work for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
