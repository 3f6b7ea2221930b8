"""Finding and opening the user's files: plain or compressed, on a disk or at a URL."""

from __future__ import annotations

import difflib
import errno
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, NoReturn, cast

import fsspec
import fsspec.core
from fsspec.implementations.local import LocalFileSystem

from chatgpt_cli.config.paths import builtin
from chatgpt_cli.errors import DataError
from chatgpt_cli.files import expanded

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

TEXT_SUFFIXES = (".txt", ".md")
ROW_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}
_SAMPLE = "sample:"
_BUFFER = 1 << 20


@dataclass(frozen=True)
class DataFile:
    """A file to read, with its kind (".txt", ".jsonl", ...) looked up behind compression."""

    url: str
    kind: str
    compression: str | None
    size: int
    # Changes when the file is written anew; empty where a file system cannot tell.
    modified: str
    # A part of a file that is not compressed: from this byte to before that one.
    start: int = 0
    stop: int | None = None

    @cached_property
    def name(self) -> str:
        """How messages call it: relative to the current folder where that is shorter."""
        path = Path(self.url)
        name = self.url
        if path.is_absolute() and path.is_relative_to(Path.cwd()):
            name = str(path.relative_to(Path.cwd()))
        return f"{name} (from byte {self.start:,} on)" if self.start else name

    @property
    def is_last(self) -> bool:
        """Whether it reaches to the end of the file."""
        return self.stop is None

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The decompressed bytes.

        Raises:
            DataError: if it cannot be read, or its compressed data ends early.
        """
        try:
            with fsspec.open(self.url, "rb", compression=self.compression) as stream:
                if self.start or self.stop is not None:
                    yield io.BufferedReader(_Slice(stream, self.start, self.stop), _BUFFER)
                elif stream.seekable():
                    yield stream
                else:
                    # Zstandard's reader knows no lines.
                    yield io.BufferedReader(cast(io.RawIOBase, stream), _BUFFER)
        except EOFError as error:
            raise DataError(
                "the compressed data ends too early",
                place=self.name,
                remedy="Was the download cut short? Fetch the file again.",
            ) from error
        except DataError:
            raise
        except (OSError, ValueError, ImportError) as error:
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if isinstance(error, FileNotFoundError):
                # fsspec's own has nothing but the path.
                said = os.strerror(errno.ENOENT)
            raise DataError(f"the file cannot be read ({said})", place=self.name) from error
        except Exception as error:
            # Each decompressor has an error type of its own.
            if type(error).__module__.split(".")[0] not in ("zlib", "lzma", "_lzma", "zstandard"):
                raise
            raise DataError(
                f"the compressed data is damaged ({error})",
                place=self.name,
                remedy="Fetch the file again.",
            ) from error


class _Slice(io.RawIOBase):
    """Some bytes of a file as a file."""

    def __init__(self, stream: IO[bytes], start: int, stop: int | None) -> None:
        stream.seek(start)
        self._stream = stream
        self._left = None if stop is None else stop - start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        wanted = len(view) if self._left is None else min(len(view), self._left)
        data = self._stream.read(wanted)
        view[: len(data)] = data
        if self._left is not None:
            self._left -= len(data)
        return len(data)


def find_files(
    path: str, suffixes: tuple[str, ...] = TEXT_SUFFIXES + ROW_SUFFIXES
) -> list[DataFile]:
    """The files that a path, folder, glob or URL stands for, in the order of their names.

    Raises:
        DataError: if there is none; for a missing path the nearest name is told.
    """
    system, root, found = _listed(path)
    prefix = path.split("://")[0] + "://" if "://" in path else ""
    is_single = found == [root]
    files = []
    for name in found:
        kind, compression = _kind(name)
        if kind in suffixes:
            files.append(DataFile(prefix + name, kind, compression, *_size_and_time(system, name)))
        elif is_single:
            raise DataError(
                f"files of this kind ({kind or 'no suffix'}) are not read",
                place=path,
                remedy=f"Known are {' '.join(suffixes)}, also with {' '.join(_COMPRESSIONS)}.",
            )
    if not files:
        raise DataError(
            f"nothing in it is of a kind that is read here ({len(found)} files of other kinds)"
            if found
            else "there is no file in it",
            place=path,
            remedy=f"Known are {' '.join(suffixes)}, also with {' '.join(_COMPRESSIONS)}.",
        )
    return files


def other_kinds(paths: Iterable[str]) -> str | None:
    """What `find_files` passes over, such as "3 .html, 1 .pdf"; None if that is nothing.

    Hidden files are none that anybody expects to be read.

    Raises:
        DataError: as `find_files`.
    """
    # Asking a server once more for what it has would take long.
    listed = [_listed(path) for path in paths if "://" not in path]
    names = {(name, root) for _, root, names in listed for name in names}
    kinds = Counter(
        _kind(name)[0] or "without a suffix"
        for name, root in names
        if not any(part.startswith(".") for part in PurePosixPath(name.removeprefix(root)).parts)
    )
    for known in TEXT_SUFFIXES + ROW_SUFFIXES:
        del kinds[known]
    most = sorted(kinds.items(), key=lambda one: (-one[1], one[0]))[:5]
    return ", ".join(f"{count} {kind}" for kind, count in most) or None


def _listed(path: str) -> tuple[fsspec.AbstractFileSystem, str, list[str]]:
    """What opens a path or URL, the name it has there, and all files that it stands for."""
    place = path
    if path.startswith(_SAMPLE):
        path = builtin("data").joinpath(path.removeprefix(_SAMPLE)).as_posix()
    system, root = _file_system(path)
    if system.isdir(root):
        found = list(_walk(root)) if isinstance(system, LocalFileSystem) else system.find(root)
    elif system.exists(root):
        found = [root]
    elif is_pattern(path):
        found = [name for name in system.glob(root) if not system.isdir(name)]
        if not found:
            raise DataError(
                "no file fits this pattern",
                place=place,
                remedy="[…] stands for one of the characters in it; [[] is a bracket itself."
                if "[" in path
                else "Paths are relative to the folder in which the command is run.",
            )
    else:
        raise DataError(
            f"there is no file or folder of this name{_nearest(path)}",
            place=place,
            remedy="Paths are relative to the folder in which the command is run.",
        )
    return system, root, sorted(found)


def _walk(root: str) -> Iterator[str]:
    """The files of a folder, also behind links to folders; each folder once.

    Raises:
        DataError: if a folder in it cannot be read.
    """

    def refuse(error: OSError) -> NoReturn:
        raise DataError(
            f"the folder cannot be read ({error.strerror})",
            place=str(error.filename),
            remedy="Allow reading it, or name the files and folders that are to be read.",
        ) from error

    seen: set[str] = set()
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        paths = (Path(folder, name) for name in names)
        yield from (path.as_posix() for path in paths if _has_an_end(path))


def _has_an_end(path: Path) -> bool:
    """Not so of pipes and devices. A link that leads nowhere is told when it is read."""
    try:
        return path.is_file() or not path.exists()
    except OSError:
        return True


def _size_and_time(system: fsspec.AbstractFileSystem, name: str) -> tuple[int, str]:
    """In bytes, and as the file system writes it; nothing where reading will tell why."""
    try:
        info = system.info(name)
    except OSError:
        return 0, ""
    stamp = info.get("mtime") or info.get("LastModified") or info.get("created") or ""
    return int(info.get("size") or 0), str(stamp)


def is_pattern(path: str) -> bool:
    """Whether it may stand for several files, if there is none of this very name."""
    return any(character in path for character in "*?[")


def suffix_of(path: str) -> str:
    """What a file's name ends with, behind compression."""
    return _kind(path)[0]


def _file_system(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """What opens a path or URL, and the name it has there.

    Raises:
        DataError: for a kind of URL that is not known, or needs a package.
    """
    if "://" not in path:
        path = str(expanded(path))
    try:
        system, root = fsspec.core.url_to_fs(path)
        return system, root
    except (ImportError, ValueError) as error:
        raise DataError(
            f"URLs of this kind cannot be opened here ({error})",
            place=path,
            remedy="Install what is missing, such as `pip install aiohttp requests` for http, or "
            "name a file on this machine.",
        ) from error


def find_file(path: str) -> DataFile:
    """One file of any kind of text, whatever its name ends with.

    Raises:
        DataError: as `find_files`; also for a folder.
    """
    if expanded(path).is_dir():
        raise DataError("this is a folder, a file is needed", place=path)
    suffix = _kind(path)[0]
    return find_files(path, (suffix,))[0]


def _kind(name: str) -> tuple[str, str | None]:
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression:
        suffixes.pop()
    return (suffixes[-1] if suffixes else ""), compression


def _nearest(path: str) -> str:
    """ ", did you mean …" if a neighbour has nearly this name."""
    folder = Path(path).parent
    if "://" in path or not folder.is_dir():
        return ""
    near = difflib.get_close_matches(Path(path).name, [p.name for p in folder.iterdir()], n=1)
    return f"; did you mean {folder / near[0]}?" if near else ""
