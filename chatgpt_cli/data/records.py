"""Files as text or as rows, read piece by piece, with every fault named by its line."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from chatgpt_cli.data.formats.languages import is_chinese, language
from chatgpt_cli.data.nested import rows_in
from chatgpt_cli.data.problems import Problem
from chatgpt_cli.data.sources import DataFile
from chatgpt_cli.errors import ChatGPTError, DataError
from chatgpt_cli.full_width import slip_in_json
from chatgpt_cli.tokenizer.tokenizer import whole_characters

_PIECE = 1 << 20
# A row that is longer than this is taken for a broken file.
_LONGEST_ROW = 64 << 20


@dataclass(frozen=True)
class Row:
    """A row of a structured file, with the place that messages name."""

    place: str
    fields: dict[str, Any]


def read_text(file: DataFile) -> Iterator[str | Problem]:
    """The text of a file in pieces of about a megabyte; a BOM and CRs are left out."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    consumed, lines, held, empty = 0, 1, "", True
    try:
        with file.open() as stream:
            while True:
                data = stream.read(_PIECE)
                try:
                    piece = decoder.decode(data, final=not data)
                except UnicodeDecodeError as error:
                    yield _not_utf8(file.name, error, lines, consumed)
                    return
                if not data and not piece and not held:
                    break
                text = held + piece
                # "\r\n" may lie across two pieces.
                held = "\r" if text.endswith("\r") and data else ""
                text = text[: len(text) - len(held)].replace("\r\n", "\n").replace("\r", "\n")
                if empty:
                    text = text.removeprefix("\ufeff")
                if text:
                    empty = False
                    lines += text.count("\n")
                    yield text
                consumed += len(data)
                if not data:
                    break
    except DataError as error:
        yield Problem(error.place or file.name, _sentence(error), "unreadable file")
        return
    if empty:
        yield Problem(file.name, "the file is empty", "empty file")


def whole_text(file: DataFile) -> str | Problem:
    """All of a file's text, or what is wrong with it."""
    pieces: list[str] = []
    for piece in read_text(file):
        if isinstance(piece, Problem):
            return piece
        pieces.append(piece)
    return "".join(pieces)


def _not_utf8(name: str, error: UnicodeDecodeError, lines: int, consumed: int | None) -> Problem:
    data: bytes = error.object
    at = "" if consumed is None else f" at {consumed + error.start:,}"
    line = lines + data[: error.start].count(b"\n")
    guess = ""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        guess = "; it looks like UTF-16"
    else:
        try:
            data.decode("gb18030")
            guess = "; it may be GB18030 (GBK)"
        except UnicodeDecodeError:
            pass
    return Problem(
        f"{name}:{line}",
        f"the text is not UTF-8 (byte {data[error.start]:#04x}{at}){guess}. Save it as UTF-8",
        "not UTF-8",
    )


def read_rows(file: DataFile) -> Iterator[Row | Problem]:
    """The rows of a structured file as dictionaries."""
    readers = {
        ".jsonl": _read_jsonl,
        ".json": _read_json,
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".parquet": _read_parquet,
    }
    count = 0
    try:
        with file.open() as stream:
            for item in readers[file.kind](file, stream):
                count += 1
                yield item
    except ChatGPTError as error:
        yield Problem(error.place or file.name, _sentence(error), "unreadable file")
        return
    if count == 0:
        yield Problem(file.name, "the file is empty", "empty file")


def _sentence(error: ChatGPTError) -> str:
    return error.fact + (f". {error.remedy}" if error.remedy else "")


def _lines(file: DataFile, stream: IO[bytes]) -> Iterator[tuple[int, str] | Problem]:
    """Numbered lines without their ends; a BOM is left out."""
    number, offset = 0, 0
    while data := stream.readline(_LONGEST_ROW):
        number += 1
        if len(data) == _LONGEST_ROW:
            yield Problem(f"{file.name}:{number}", "the line is longer than 64 MB", "too long")
            return
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            yield _not_utf8(file.name, error, number, offset)
            offset += len(data)
            continue
        offset += len(data)
        yield number, text.removeprefix("\ufeff" if number == 1 else "").rstrip("\r\n")


def _read_jsonl(file: DataFile, stream: IO[bytes]) -> Iterator[Row | Problem]:
    held: Problem | None = None
    for line in _lines(file, stream):
        if isinstance(line, Problem):
            yield line
            continue
        number, text = line
        if not text.strip():
            continue
        if held:
            yield held
            held = None
        place = f"{file.name}:{number}"
        try:
            value = _parsed(text)
        except (ValueError, RecursionError) as error:
            column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            if isinstance(error, json.JSONDecodeError) and (slip := slip_in_json(text, error)):
                fault = f"the line is not JSON ({what}{column}): {slip}"
                yield Problem(place, fault, "not JSON")
                continue
            # Held back, because the last line of a file has a cause of its own.
            held = Problem(place, f"the line is not JSON ({what}{column})", "not JSON")
            continue
        yield from _object(place, value)
    if held and file.is_last:
        reason = f"{held.reason}. It is the last line: was the download cut short?"
        yield Problem(held.place, reason, held.kind)
    elif held:
        yield held


def _parsed(text: str) -> Any:
    """JSON; halves of characters, which only escapes can write, become U+FFFD."""
    value = json.loads(text)
    return _whole(value) if "\\ud" in text or "\\uD" in text else value


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return whole_characters(value)
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, dict):
        return {whole_characters(name): _whole(one) for name, one in value.items()}
    return value


def _object(place: str, value: object) -> Iterator[Row | Problem]:
    if isinstance(value, dict):
        for where, fields in rows_in(place, value):
            yield Row(where, fields)
        return
    yield Problem(place, f"a row must be a JSON object, this is {_named(value)}", "not an object")


def _named(value: object) -> str:
    return {
        type(None): "null",
        list: "a list",
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }.get(type(value), type(value).__name__)


def _read_json(file: DataFile, stream: IO[bytes]) -> Iterator[Row | Problem]:
    """A file that is one JSON array of objects, or one object."""
    data = stream.read()
    if not data.strip():
        return
    try:
        content = _parsed(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        yield _not_utf8(file.name, error, 1, 0)
        return
    except json.JSONDecodeError as error:
        reason = f"the file is not JSON ({error.msg}, column {error.colno})"
        slip = slip_in_json(error.doc, error)
        reason += f": {slip}" if slip else ". With one object in each line, name it .jsonl"
        yield Problem(f"{file.name}:{error.lineno}", reason, "not JSON")
        return
    except (ValueError, RecursionError) as error:
        yield Problem(file.name, f"the file is not JSON ({error})", "not JSON")
        return
    if isinstance(content, dict):
        yield from _object(file.name, content)
        return
    rows = content if isinstance(content, list) else [content]
    for number, value in enumerate(rows, start=1):
        yield from _object(f"{file.name}, row {number}", value)


def _read_csv(file: DataFile, stream: IO[bytes]) -> Iterator[Row | Problem]:
    csv.field_size_limit(_LONGEST_ROW)
    if file.kind == ".tsv" and _is_without_header(stream):
        yield from _read_pairs(file, stream)
        return
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = _CsvLines(text)
    delimiter = "\t" if file.kind == ".tsv" else ","
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    try:
        while True:
            start = lines.begin_row()
            try:
                values = next(reader, None)
            except csv.Error as error:
                yield _broken_csv(file, lines, delimiter, error)
                reader = csv.reader(lines, delimiter=delimiter, strict=True)
                if header is None:
                    return
                continue
            if values is None:
                return
            if not values:
                continue
            if (fault := _undecoded(file.name, start, values)) is not None:
                yield fault
                if header is None:
                    return
            elif header is None:
                if len(values) == 1 and ";" in values[0] and delimiter == ",":
                    yield Problem(
                        f"{file.name}:{start}",
                        "the columns are divided by ; instead of commas. Save it with commas",
                        "broken CSV",
                    )
                    return
                header = values
            elif len(values) != len(header):
                yield Problem(
                    f"{file.name}:{start}",
                    f"{len(values)} columns instead of {len(header)}",
                    "column count",
                )
            else:
                yield Row(f"{file.name}:{start}", dict(zip(header, values, strict=True)))
    finally:
        text.detach()


def _undecoded(name: str, line: int, values: list[str]) -> Problem | None:
    """What is wrong with a row that has bytes which are not UTF-8 (PEP 383 keeps them)."""
    row = "\t".join(values)
    try:
        row.encode("utf-8")
    except UnicodeEncodeError:
        try:
            row.encode("utf-8", "surrogateescape").decode("utf-8")
        except UnicodeDecodeError as error:
            return _not_utf8(name, error, line, None)
    return None


class _CsvLines:
    """The lines of a file, of which those of the row that is being read can be read again.

    Attributes:
        number: that of the last line that was read, from 1.
        row: the lines of the row so far.
    """

    def __init__(self, text: Iterable[str]) -> None:
        self._text = iter(text)
        self._again: deque[str] = deque()
        self.number = 0
        self.row: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._text)
        self.number += 1
        self.row.append(line)
        return line

    def begin_row(self) -> int:
        """The number of the line in which the next row begins."""
        self.row = []
        return self.number + 1

    def go_back(self, kept: int) -> None:
        """Read the lines of the row again, but for the first `kept`."""
        self._again.extendleft(reversed(self.row[kept:]))
        self.number -= len(self.row) - kept
        del self.row[kept:]


def _broken_csv(file: DataFile, lines: _CsvLines, delimiter: str, error: csv.Error) -> Problem:
    """What is wrong with the row; the lines that an unclosed quote took in are read again."""
    first = lines.number - len(lines.row) + 1
    opened = _opened_quote("".join(lines.row), delimiter)
    to_the_end = "unexpected end" in str(error)
    unclosed = opened is not None and (to_the_end or opened + 1 < len(lines.row))
    lines.go_back(1 if opened is None else opened + 1)
    reason = str(error)
    if unclosed:
        reason = "a quote that opens in this line is not closed"
    elif "expected after" in reason:
        reason = "text after a closing quote"
    return Problem(f"{file.name}:{first + (opened or 0)}", f"broken CSV ({reason})", "broken CSV")


def _opened_quote(row: str, delimiter: str) -> int | None:
    """The line, from 0, in which the last quoted field of a broken row begins; None without one.

    As the reader: a field is quoted if it begins with a quote, and ends at a single one.
    """
    at, opened = 0, None
    while at < len(row):
        if row[at] != '"':
            # To the end of a field without quotes.
            found = re.compile(f"[{delimiter}\n\r]").search(row, at)
            if found is None:
                break
            at = found.end()
            continue
        opened = at
        end = re.compile('(?:[^"]|"")*+"(?!")').match(row, at + 1)
        if end is None or row[end.end() : end.end() + 1] not in (delimiter, "\n", "\r"):
            break
        at = end.end() + 1
    return None if opened is None else len(re.findall("\r\n|\r|\n", row[:opened]))


def _is_without_header(stream: IO[bytes]) -> bool:
    """Whether a TSV begins with a translation instead of names: two scripts side by side."""
    if isinstance(stream, io.BufferedReader):
        begin = stream.peek().partition(b"\n")[0]
    else:
        begin = stream.readline(_LONGEST_ROW)
        stream.seek(0)
    first = begin.decode("utf-8-sig", errors="replace")
    cells = first.rstrip("\r\n").split("\t")
    if len(cells) not in (2, 3) or any(language(cell) for cell in cells):
        return False
    return is_chinese(cells[0]) != is_chinese(cells[1])


def _read_pairs(file: DataFile, stream: IO[bytes]) -> Iterator[Row | Problem]:
    """A TSV of translations without names or quotation rules (Tatoeba, Anki)."""
    for line in _lines(file, stream):
        if isinstance(line, Problem):
            yield line
            continue
        number, text = line
        cells = text.split("\t")
        place = f"{file.name}:{number}"
        if not text.strip():
            continue
        if len(cells) not in (2, 3):
            yield Problem(place, f"{len(cells)} columns instead of 2", "column count")
            continue
        yield Row(place, dict(zip(("source", "target", "attribution"), cells, strict=False)))


def _read_parquet(file: DataFile, stream: IO[bytes]) -> Iterator[Row | Problem]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            "reading Parquet needs the package pyarrow",
            place=file.name,
            remedy="Install it with: pip install 'chatgpt-cli[parquet]'",
        ) from error
    number = 0
    if not stream.seekable():
        stream = io.BytesIO(stream.read())
    try:
        table = pyarrow.parquet.ParquetFile(stream)
        names = _class_names(table.schema_arrow.metadata)
        for batch in table.iter_batches(batch_size=1000):
            for fields in batch.to_pylist():
                number += 1
                yield Row(f"{file.name}, row {number}", _with_names(fields, names))
    except (pyarrow.ArrowException, OSError) as error:
        yield Problem(file.name, f"the file is not readable as Parquet ({error})", "broken Parquet")


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """What the numbers of a column mean, where the library `datasets` wrote it (ClassLabel)."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _with_names(fields: dict[str, Any], names: dict[str, list[str]]) -> dict[str, Any]:
    """Names in the place of a class's number."""
    known = {
        column: of_column[fields[column]]
        for column, of_column in names.items()
        if isinstance(fields.get(column), int) and 0 <= fields[column] < len(of_column)
    }
    return {**fields, **known}
