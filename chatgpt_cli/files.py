"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What a process leaves behind that dies while it writes: the new file or folder under
# its process's number, and the old folder that was about to be replaced.
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?:(?P<pid>\d+)\.tmp|replaced)")


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk; on Windows folders cannot be opened for it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it is flushed and renamed to it.

    The caller writes a file or makes a folder there. If the block raises, what it
    wrote is removed and `target` stays as it was. A folder replaces an old folder, which
    `recover` brings back if the process dies between the two renames.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    replaced = target.with_name(f".{target.name}.replaced")
    _remove(temporary)
    try:
        yield temporary
        if temporary.is_dir():
            for path in temporary.rglob("*"):
                _sync(path)
        _sync(temporary)
        if temporary.is_file() and target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        if temporary.is_dir() and target.exists():
            _remove(replaced)
            target.rename(replaced)
        temporary.replace(target)
        _sync(target.parent)
        _remove(replaced)
    except BaseException:
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        _remove(temporary)
        raise


def scratch_folder(beside: Path) -> Path:
    """A new folder beside a path, which `recover` removes if this process dies."""
    folder = _temporary(beside)
    _remove(folder)
    folder.mkdir(parents=True)
    return folder


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def recover(folder: Path) -> None:
    """Tidy a folder after processes that died while writing: old files are whole again.

    Call it only while no other process writes there.
    """
    for path in folder.glob(".*"):
        match = _LEFTOVER.fullmatch(path.name)
        if match is None:
            continue
        target = path.with_name(match["name"])
        if match["pid"] is None and not target.exists():
            path.rename(target)
        else:
            _remove(path)


def set_aside(path: Path) -> None:
    """Move a folder out of the way of one that shall replace it.

    `recover` brings it back if nothing has taken its place, and removes it if something has.
    """
    aside = path.with_name(f".{path.name}.replaced")
    _remove(aside)
    path.rename(aside)


def discard(path: Path) -> None:
    """Remove a folder such that nobody ever sees half of it under its name."""
    doomed = _temporary(path)
    _remove(doomed)
    path.rename(doomed)
    _remove(doomed)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def expanded(name: str) -> Path:
    """A path as typed: ~ is the home folder; ~NAME of nobody here stays, as in a shell."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text with \\n line ends, all of it or nothing.

    Bytes of file names that are not UTF-8 are written as JSON escapes them.
    """
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(target: Path, value: Any) -> None:
    """Write a JSON file, all of it or nothing."""
    write_text(target, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def compiled_code_folder() -> Path | None:
    """Where code compiled for this machine is kept for later runs; None if it cannot be."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "chatgpt" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
