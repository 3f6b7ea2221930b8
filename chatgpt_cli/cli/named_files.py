"""The files that settings name: missing ones are told with the setting and its line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chatgpt_cli.errors import DataError
from chatgpt_cli.files import expanded

if TYPE_CHECKING:
    from chatgpt_cli.cli.project import Project

Key = tuple[str | int, ...]


def require_files(project: Project, section: str, *keys: str) -> None:
    """Look for the local files of these lists of a section, before anything is loaded.

    URLs and patterns are left to what reads them.

    Raises:
        DataError: if one is not there.
    """
    from chatgpt_cli.data.sources import find_files

    for key in keys:
        for where, path in _named(getattr(getattr(project.config, section), key), (section, key)):
            if any(mark in path for mark in ":*?[") or expanded(path).exists():
                continue
            place = project.place_of(where)
            if not place.startswith("--set"):
                place += f": {section}.{key}"
            try:
                find_files(path)
            except DataError as error:
                raise DataError(
                    error.fact, place=f"{place}: {path}", remedy=error.remedy
                ) from error


def _named(entries: list[object], key: Key) -> Iterator[tuple[Key, str]]:
    """Each path of a list, and the key under which it stands."""
    for index, entry in enumerate(entries):
        if isinstance(entry, str):
            yield (*key, index), entry
            continue
        for name in ("path", "source", "target"):
            path = getattr(entry, name, None)
            if isinstance(path, str):
                yield (*key, index, name), path
