"""The text divided into parts: some small files each, one file, or a range of a large one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import fsspec

from chatgpt_cli.config.schema import SourceSection
from chatgpt_cli.data.sources import TEXT_SUFFIXES, DataFile
from chatgpt_cli.data.survey import SourceFiles

# How much text is in a part, in bytes as they lie on the disk; more where that would give
# more than so many parts.
PART_BYTES = 32_000_000
_MOST_PARTS = 4096
_BLOCK = 1 << 20
# Where no document has ended after so much, the rest of the file is one range.
_LONGEST_DOCUMENT = 64 << 20


@dataclass(frozen=True)
class Part:
    """Files, or ranges of files, of one source."""

    source: int
    files: list[DataFile]


def divide(sources: Sequence[SourceFiles]) -> list[Part]:
    """The same parts in the same order, however many workers and machines there are."""
    total = sum(file.size for source in sources for file in source.files)
    size = max(PART_BYTES, total // _MOST_PARTS)
    parts = []
    for number, source in enumerate(sources):
        group: list[DataFile] = []
        held = 0
        for file in source.files:
            for piece in _ranges(file, source.section, size):
                group.append(piece)
                held += (file.size if piece.stop is None else piece.stop) - piece.start
                if held >= size:
                    parts.append(Part(number, group))
                    group, held = [], 0
        if group:
            parts.append(Part(number, group))
    return parts


def _ranges(file: DataFile, source: SourceSection, size: int) -> Iterator[DataFile]:
    """A file in ranges that begin with a document, if it can be entered at any byte."""
    border = _border(file, source)
    if border is None or file.size < 2 * size:
        yield file
        return
    start = 0
    with fsspec.open(file.url, "rb") as stream:
        while file.size - start >= 2 * size:
            stop = _next_border(stream, start + size, border)
            if stop is None or stop >= file.size:
                break
            yield replace(file, start=start, stop=stop)
            start = stop
    yield replace(file, start=start)


def _border(file: DataFile, source: SourceSection) -> re.Pattern[bytes] | None:
    """What stands between two documents; None if only reading from the beginning can tell."""
    if file.compression is not None:
        return None
    if file.kind == ".jsonl":
        return re.compile(rb"\n")
    if file.kind in TEXT_SUFFIXES and source.separator:
        lines = source.separator.encode().split(b"\n")
        # A separator is looked for in text whose line ends are all \n. The group is
        # atomic: "\r\n" is one line end, and never taken for two.
        return re.compile(rb"(?>\r\n|\r|\n)".join(re.escape(line) for line in lines))
    return None


def _next_border(stream: fsspec.core.OpenFile, at: int, border: re.Pattern[bytes]) -> int | None:
    """The byte behind the first border at or after byte `at`."""
    stream.seek(at)
    data = b""
    while len(data) < _LONGEST_DOCUMENT:
        block = stream.read(_BLOCK)
        data += block
        found = border.search(data)
        # At the very end of what is read, a line end may be half of one.
        if found and (found.end() < len(data) or not block):
            return at + found.end()
        if not block:
            return None
    return None
