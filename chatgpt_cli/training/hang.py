"""Finding the process that keeps all others waiting."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
    """Training in step, all processes stand still when one does; who keeps the others waiting?

    Whoever has stood still for too long says so in the common store, and whether it waits
    for the others or where else it is. One that says nothing is gone, stopped or stuck
    outside Python.
    """

    def __init__(self, store: Store, timeout: float, report: Callable[[str], None]) -> None:
        self._store = store
        self._timeout = timeout
        self._report = report
        self._last: float | None = None
        self._ended = threading.Event()
        self._store.set(
            _key("who"), f"process {rank()} (number {os.getpid()} on {socket.gethostname()})"
        )

    def __call__(self, event: Event) -> None:
        """Take note of what was done: an event of training."""
        if isinstance(event, StepDone | Evaluated):
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
        """Look no more."""
        self._ended.set()

    def _verdict(self) -> str:
        self._store.set(_key("place"), _place_outside_torch())
        time.sleep(self._timeout / _ANSWERS)
        ranks = range(world_size())
        places = {
            one: self._store.get(_key("place", one)).decode()
            for one in ranks
            if self._store.check([_key("place", one)])
        }
        silent = [one for one in ranks if one not in places]
        elsewhere = [one for one in places if places[one]]
        names = [
            self._store.get(_key("who", one)).decode()
            + (f", which is in {places[one]}," if places.get(one) else "")
            for one in silent or elsewhere
        ]
        who = " and ".join(names) if names else "a process (each waits for the others)"
        return f"{who} has not gone on for {self._timeout:g} seconds; all processes end"


def _key(what: str, of: int | None = None) -> str:
    return f"chatgpt/{what}/{rank() if of is None else of}"


def _place_outside_torch() -> str:
    """Where the main thread is, or nothing if it waits for other processes there.

    Looked for from the inside out: is there something of PyTorch that talks with the
    others before there is something that is not PyTorch's?
    """
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if "torch" not in file.parts:
            return f"{file.name}, line {frame.f_lineno}"
        if {"distributed", "autograd"} & set(file.parts):
            return ""
        frame = frame.f_back
    return ""


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
