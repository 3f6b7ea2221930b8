"""Signals that ask training to end: noted, and obeyed after the present step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from chatgpt_cli.ranks import launched


class StopSignals:
    """Notes Ctrl-C, SIGTERM and a closed terminal while its block runs.

    A second signal ends the process at once; among several processes it does not, since
    each may be told twice, by the cluster and by torchrun, which ends by force what takes too
    long. What is being ignored stays so, as under nohup.

    Attributes:
        first: the number of the signal that arrived first, None if none has.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        """Args: `tell` is told, for the user, when a signal arrives."""
        self.first: int | None = None
        self._tell = tell
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        # Python lets no other thread have handlers.
        if threading.current_thread() is threading.main_thread():
            names = ("SIGINT", "SIGTERM", "SIGHUP")
            numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
            handlers = {number: signal.getsignal(number) for number in numbers}
            self._before = {n: one for n, one in handlers.items() if one is not signal.SIG_IGN}
            for number in self._before:
                signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        if self.first is not None:
            return
        self.first = number
        said = "Stopping after this step and saving."
        if not launched():
            self._restore()
            said += " Once more to stop at once."
        # Python refuses to write amid writing, where the signal may have come.
        with suppress(RuntimeError):
            self._tell(said)
