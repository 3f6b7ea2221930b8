"""One process at a time writes to a run directory."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chatgpt_cli.errors import ChatGPTError


@contextmanager
def run_lock(run_dir: Path, command: str) -> Iterator[None]:
    """Hold the run directory; a lock whose process is gone is taken over.

    Raises:
        ChatGPTError: if another process holds it, naming its pid and host.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / ".lock"
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "command": command}
    while True:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            break
        except FileExistsError:
            _refuse_if_alive(path)
            path.unlink(missing_ok=True)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(owner, stream)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _refuse_if_alive(path: Path) -> None:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        pid, host, command = int(owner["pid"]), str(owner["host"]), str(owner["command"])
    except (OSError, ValueError, KeyError, TypeError):
        # Half-written by a process that died.
        return
    if host == socket.gethostname() and not _is_alive(pid):
        return
    raise ChatGPTError(
        f"`chatgpt {command}` is already working here (process {pid} on {host})",
        place=str(path.parent),
        remedy=f"Wait until it ends, or choose another run_dir. If it is gone, delete {path}.",
    )


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():
        return False
    if os.name == "nt":
        # Signal 0 asks on POSIX; on Windows it would end the process.
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
