"""Two text files whose lines are each other's translations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from chatgpt_cli.config.schema import ParallelFiles
from chatgpt_cli.data.formats.languages import language
from chatgpt_cli.data.formats.translation import TranslationRow
from chatgpt_cli.data.problems import Problem
from chatgpt_cli.data.records import whole_text
from chatgpt_cli.data.sources import DataFile, find_file


def read_parallel(files: ParallelFiles) -> Iterator[TranslationRow | Problem]:
    """A translation for each line; the languages are what the names end with (a.en, a.zh).

    Files of different lengths give one problem and no row: from the missing line on,
    every pair would be wrong, and nobody knows which line is missing.

    Raises:
        DataError: if a file is not there.
    """
    source, target = find_file(files.source), find_file(files.target)
    sides: list[list[str]] = []
    for file in (source, target):
        lines = _lines(file)
        if isinstance(lines, Problem):
            yield lines
            return
        sides.append(lines)
    here, there = sides
    if len(here) != len(there):
        yield Problem(
            f"{source.name}:{min(len(here), len(there)) + 1}",
            f"{source.name} has {len(here):,} lines and {target.name} has {len(there):,}; each "
            "line must stand beside its translation",
            "unequal line counts",
        )
        return
    languages = (_language(source), _language(target))
    for number, (one, other) in enumerate(zip(here, there, strict=True), start=1):
        empty = [file for file, text in ((source, one), (target, other)) if not text.strip()]
        if len(empty) == 2:
            continue
        if empty:
            side = "source" if empty[0] is source else "target"
            yield Problem(
                f"{empty[0].name}:{number}", f"{side} is empty here", "empty message", side
            )
            continue
        yield TranslationRow(one, other, languages, f"{source.name}:{number}")


def _lines(file: DataFile) -> list[str] | Problem:
    text = whole_text(file)
    return text if isinstance(text, Problem) else text.removesuffix("\n").split("\n")


def _language(file: DataFile) -> str | None:
    """From the last part of the name that is one: train.en, train.en.txt.gz."""
    parts = PurePosixPath(file.url).name.split(".")[1:]
    return next((found for part in reversed(parts) if (found := language(part))), None)
