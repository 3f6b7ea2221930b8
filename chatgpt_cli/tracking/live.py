"""Trackers beside training: a process for each, begun with the first step."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO

from chatgpt_cli.command_line import same_run
from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.config.schema import Service
from chatgpt_cli.training.events import Event, Note, StepDone

# Seconds that a service may need, after training, for what it was not sent yet.
_PATIENCE = 60.0


class Trackers:
    """An observer of training that lets services have its metrics as they are written.

    Nothing that a service does stops training: it runs in another process, and reads a
    file that is written anyway.
    """

    def __init__(
        self,
        services: Sequence[Service],
        stage: StagePaths,
        *,
        group: str,
        tell: Callable[[Note], None],
    ) -> None:
        """Args:
        services: which.
        stage: whose metrics they get.
        group: the name that the stages of one project share.
        tell: told where the curves are, and what failed; from another thread.
        """
        self._services = services
        self._stage = stage
        self._group = group
        self._tell = tell
        self._children: list[_Child] | None = None

    def __call__(self, event: Event) -> None:
        """Begin with the first step: an earlier run's metrics are out of the way then."""
        if isinstance(event, StepDone):
            self.start()

    def start(self) -> None:
        """Begin, unless that was done."""
        if self._children is None:
            self._children = [
                _Child(one, self._stage, self._group, self._tell) for one in self._services
            ]

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *_: object) -> None:
        """Let the services take what they have not got yet."""
        children, self._children = self._children or [], None
        for child in children:
            child.end()
        for child in children:
            child.wait()


class _Child:
    """The process of one service."""

    def __init__(
        self, service: Service, stage: StagePaths, group: str, tell: Callable[[Note], None]
    ) -> None:
        self._service = service
        self._tell = tell
        # Said from another thread, which does not know it.
        self._again = same_run("report", "--track", service, run=stage.root.parent)
        self._log = stage.trackers / f"{service}.log"
        self._process: subprocess.Popen[str] | None = None
        command = [sys.executable, "-m", "chatgpt_cli.tracking", service, str(stage.root), group]
        try:
            stage.trackers.mkdir(parents=True, exist_ok=True)
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    encoding="utf-8",
                    # Ctrl-C is for training; the services then get what is left.
                    start_new_session=True,
                )
        except OSError as error:
            self._warn(str(error))
            return
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._pass_on, args=[self._process.stdout], daemon=True
        )
        self._reader.start()

    def _pass_on(self, messages: IO[str]) -> None:
        for line in messages:
            with suppress(ValueError, KeyError):
                said = json.loads(line)
                if said["failed"]:
                    self._warn(said["text"])
                else:
                    self._tell(Note(f"{self._service}: {said['text']}"))

    def _warn(self, text: str) -> None:
        self._tell(
            Note(
                f"The tracker {self._service} failed, training is not affected: {text} (log: "
                f"{self._log}). Send what it lacks later: chatgpt {self._again}",
                "warning",
            )
        )

    def end(self) -> None:
        """Say that no more will come."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def wait(self) -> None:
        """Wait as long as is reasonable, then end it."""
        if self._process is None:
            return
        try:
            code = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._warn(f"it did not end within {_PATIENCE:g} seconds")
            self._process.kill()
            self._process.wait()
        else:
            # What went wrong in Python it has said itself.
            if code not in (0, 1):
                self._warn(f"it ended with code {code}")
        self._reader.join(timeout=10)
