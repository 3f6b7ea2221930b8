"""Finding the process that keeps all others waiting."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

from chatgpt_cli.errors import ProcessLost
from chatgpt_cli.training.distributed import rank, world_size
from chatgpt_cli.training.events import Evaluated, Event, StepDone

# Parts of the timeout after which everybody looks again, and which the others have to
# say that they wait too.
_LOOKS = 10
_ANSWERS = 4


class Watch:
    """Who is where: each process says in the common store what it has done last.

    Training in step, all processes stand still when one does. Whoever has waited for too
    long says so. One that does not say so is gone, stopped or stuck outside Python; if all
    do, those that have done the least are what the others wait for.
    """

    def __init__(self, store: Store, timeout: float, report: Callable[[str], None]) -> None:
        self._store = store
        self._own = store
        self._timeout = timeout
        self._report = report
        self._last: float | None = None
        self._ended = threading.Event()
        self._own.set(_key("who"), f"process {rank()} (number {os.getpid()} on {_host()})")

    def __call__(self, event: Event) -> None:
        """Take note of what was done: an event of training."""
        if isinstance(event, StepDone | Evaluated):
            done = 2 * event.step + isinstance(event, Evaluated)
            self._own.set(_key("done"), str(done))
            self._last = time.monotonic()

    def run(self) -> None:
        """Look from time to time, until `end`; ends the whole process if all stand still."""
        while not self._ended.wait(self._timeout / _LOOKS):
            if self._last is not None and time.monotonic() - self._last > self._timeout:
                with suppress(dist.DistStoreError, RuntimeError):
                    self._report(self._verdict())
                # The main thread waits for ever inside a library.
                os._exit(ProcessLost.exit_code)

    def end(self) -> None:
        self._ended.set()

    def _verdict(self) -> str:
        self._store.set(_key("waits"), "yes")
        time.sleep(self._timeout / _ANSWERS)
        ranks = range(world_size())
        silent = [one for one in ranks if not self._store.check([_key("waits", one)])]
        if not silent:
            done = [int(self._store.get(_key("done", one))) for one in ranks]
            silent = [one for one in ranks if done[one] < max(done)]
        names = [self._store.get(_key("who", one)).decode() for one in silent]
        who = " and ".join(names) if names else "a process (all of them wait for each other)"
        return f"{who} has not gone on for {self._timeout:g} seconds; all processes end"


def _key(what: str, of: int | None = None) -> str:
    return f"chatgpt/{what}/{rank() if of is None else of}"


def _host() -> str:
    return socket.gethostname()


@contextmanager
def watching(
    store: Store | None, timeout: float, report: Callable[[str], None]
) -> Iterator[Callable[[Event], None]]:
    """Yield what is to be told of each event of training, in every process.

    Args:
        store: that of the process group, None if there is but one process.
        timeout: seconds without an event after which the process ends.
        report: told who is hanging, before that.
    """
    if store is None:
        yield lambda _: None
        return
    watch = Watch(store, timeout, report)
    thread = threading.Thread(target=watch.run, name="hang watch", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.end()
        thread.join()
