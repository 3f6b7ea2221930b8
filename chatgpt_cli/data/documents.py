"""Sources as a stream of clean documents, in an order that never changes."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from chatgpt_cli.config.schema import DataSection, SourceSection
from chatgpt_cli.data.problems import Problem
from chatgpt_cli.data.records import Row, read_rows, read_text
from chatgpt_cli.data.sources import TEXT_SUFFIXES, DataFile


@dataclass(frozen=True)
class Document:
    """A piece of text that stands for itself, and where it came from."""

    text: str
    place: str
    # True where a longer text was cut to max_chars.
    cut: bool = False


def read_documents(
    file: DataFile, source: SourceSection, section: DataSection
) -> Iterator[Document | Problem]:
    """The documents of one file, normalised, and at most `max_chars` long."""
    raw = _from_text(file, source) if file.kind in TEXT_SUFFIXES else _from_rows(file, source)
    pending: Document | None = None
    for item in raw:
        if isinstance(item, Problem):
            yield item
            continue
        # A text without separator arrives in pieces that belong together.
        joined = item.text if pending is None else pending.text + item.text
        pieces = list(_cut(joined, section.max_chars))
        whole = not item.cut
        for piece in pieces if whole else pieces[:-1]:
            yield _clean(piece, item.place, section, cut=len(pieces) > 1 or pending is not None)
        pending = None if whole else Document(pieces[-1], item.place, cut=True)
    if pending is not None and pending.text:
        yield _clean(pending.text, pending.place, section, cut=True)


def _clean(text: str, place: str, section: DataSection, *, cut: bool) -> Document:
    if section.normalization != "none":
        text = unicodedata.normalize("NFC" if section.normalization == "nfc" else "NFKC", text)
    return Document(text.replace("\0", ""), place, cut)


def _cut(text: str, longest: int) -> Iterator[str]:
    """Pieces of at most `longest` characters, at a paragraph, line or word end if one is near."""
    start = 0
    while len(text) - start > longest:
        end = start + longest
        for border in ("\n\n", "\n", "。", ". ", " "):
            found = text.rfind(border, start + longest // 2, end)
            if found >= 0:
                end = found + len(border)
                break
        yield text[start:end]
        start = end
    yield text[start:]


def _from_text(file: DataFile, source: SourceSection) -> Iterator[Document | Problem]:
    """Text files: divided at the separator, or whole (in pieces marked `cut`, the last not)."""
    held, found = "", False
    for piece in read_text(file):
        if isinstance(piece, Problem):
            yield piece
            return
        found = True
        if source.separator is None:
            if held:
                yield Document(held, file.name, cut=True)
            held = piece
            continue
        parts = (held + piece).split(source.separator)
        held = parts.pop()
        for part in parts:
            if part.strip():
                yield Document(part.strip("\n"), file.name)
    if not found:
        return
    if source.separator is None:
        yield Document(held, file.name)
    elif held.strip():
        yield Document(held.strip("\n"), file.name)


def _from_rows(file: DataFile, source: SourceSection) -> Iterator[Document | Problem]:
    for row in read_rows(file):
        if isinstance(row, Problem):
            yield row
            continue
        value = row.fields.get(source.field)
        if isinstance(value, str):
            yield Document(value, row.place)
        else:
            yield _wrong_field(row, source.field)


def _wrong_field(row: Row, field: str) -> Problem:
    names = [str(name) for name in row.fields]
    if field in row.fields:
        kind = type(row.fields[field]).__name__
        return Problem(
            row.place, f"the field {field!r} holds {kind}, not text", "field is not text"
        )
    near = difflib.get_close_matches(field, names, n=1)
    texts = [name for name, value in row.fields.items() if isinstance(value, str)]
    hint = f"; did you mean {near[0]!r}?" if near else ""
    if not near and texts:
        hint = f"; set `field: {texts[0]}` for this source?"
    return Problem(
        row.place,
        f"the row has no field {field!r} (it has {', '.join(names[:8]) or 'none'}){hint}",
        "field is missing",
    )
