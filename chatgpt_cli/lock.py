"""One process at a time writes to a run directory."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from chatgpt_cli.errors import ChatGPTError, ConfigError
from chatgpt_cli.files import recover
from chatgpt_cli.ranks import this_rank


@dataclass(frozen=True)
class _Owner:
    """Who holds a run directory, as the lock file says it."""

    pid: int
    host: str
    command: str
    # The job of several processes, which may go on from another machine.
    job: str | None = None


@contextmanager
def run_lock(run_dir: Path, command: str) -> Iterator[None]:
    """Hold the run directory, and tidy what a process that died left half-written.

    The lock file names its owner, for people and for other machines. On one machine
    it is the operating system's lock on the file that counts: it ends with its process
    however that ends, and a process that later gets the same number has no part in it.

    Raises:
        ConfigError: if it is a file.
        ChatGPTError: if another process holds it, naming its pid and host.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(
            "the run directory cannot be made: there is a file of this name",
            place=str(run_dir),
            remedy="Choose another run_dir, or move the file away.",
        ) from None
    path = run_dir / ".lock"
    descriptor = _acquire(path)
    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        owner = _Owner(os.getpid(), socket.gethostname(), command, this_rank().job)
        os.write(descriptor, json.dumps(asdict(owner)).encode())
        stages = list(run_dir.glob("*/checkpoints"))
        for folder in (run_dir, *stages, *(stage.parent for stage in stages)):
            recover(folder)
        yield
    finally:
        # What --restart set aside comes back if nothing new was begun.
        with suppress(OSError):
            recover(run_dir)
        # Whoever has opened the file by now will see that it is no longer in its place.
        # Windows keeps an open file; there it stays, and holds nobody up.
        with suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path) -> int:
    """The open lock file, held."""
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        held = False
        try:
            owner = _read(descriptor)
            if not _lock(descriptor, owner):
                raise _refusal(path, owner)
            elsewhere = owner is not None and owner.host != socket.gethostname()
            if elsewhere and not _is_of_this_job(owner):
                raise _refusal(path, owner)
            held = path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())
        finally:
            if not held:
                os.close(descriptor)
        if held:
            return descriptor


def _is_of_this_job(owner: _Owner | None) -> bool:
    """Whether an owner on another machine was an earlier start of this very job."""
    return owner is not None and owner.job is not None and owner.job == this_rank().job


def _lock(descriptor: int, owner: _Owner | None) -> bool:
    """Take the operating system's lock; False if another process has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            # A byte far behind the text, which others may then still read.
            os.lseek(descriptor, 1 << 20, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            return False
        # A file system without locks: what the file says must do.
        return owner is None or not _is_alive(owner.pid)
    return True


def _read(descriptor: int) -> _Owner | None:
    """What the file says; None if it is new, or half-written by a process that died."""
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0) if hasattr(os, "pread") else b"")
        job = owner.get("job")
        who = int(owner["pid"]), str(owner["host"]), str(owner["command"])
        return _Owner(*who, job if isinstance(job, str) else None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _refusal(path: Path, owner: _Owner | None) -> ChatGPTError:
    who = (
        f"`chatgpt {owner.command}` is already working here (process {owner.pid} on {owner.host})"
        if owner
        else "another process is already working here"
    )
    remedy = "Wait until it ends, or choose another run_dir."
    if owner and owner.host != socket.gethostname():
        # Only there could the operating system say whether the process is alive.
        remedy = (
            "Wait until it ends, or choose another run_dir. If the process or its machine is "
            f"gone, delete {path}."
        )
    return ChatGPTError(who, place=str(path.parent), remedy=remedy)


def holder(run_dir: Path) -> str | None:
    """The command that works in a run directory at this moment, as `run_lock` was told it.

    What another machine's process says there is believed, as `run_lock` does.
    """
    try:
        descriptor = os.open(run_dir / ".lock", os.O_RDWR)
    except OSError:
        return None
    try:
        owner = _read(descriptor)
        if owner is None:
            return None
        if owner.host != socket.gethostname():
            return owner.command
        # Asked for only where somebody seems to hold it, so that nobody is held up by it.
        held = _is_alive(owner.pid) and not _lock(descriptor, owner)
        return owner.command if held else None
    finally:
        os.close(descriptor)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        # Signal 0 asks on POSIX; on Windows it would end the process.
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
