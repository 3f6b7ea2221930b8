"""`chatgpt init`: a commented configuration to begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chatgpt_cli.cli.output import Output
from chatgpt_cli.command_line import quoted

if TYPE_CHECKING:
    from chatgpt_cli.data.problems import Problem
    from chatgpt_cli.data.sources import DataFile

_LARGE_VOCAB = 4096
# Of text: 1000 tokens need about 100 KB.
_ENOUGH_BYTES = 400_000


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("chatgpt.yaml"),
    data: Annotated[
        str | None,
        typer.Option(help="Your text: a file, folder or glob.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented configuration for a new project."""
    import json

    from chatgpt_cli.config.loader import load_config
    from chatgpt_cli.config.starter import starter
    from chatgpt_cli.errors import ConfigError
    from chatgpt_cli.files import write_text

    if path.exists() and not force:
        raise ConfigError(
            "the file is there already", place=str(path), remedy="Use --force to replace it."
        )
    output = Output()
    vocab_size = _LARGE_VOCAB if data is None else _vocab_size(output, data)
    name = path.resolve().parent.name if path.stem == "chatgpt" else path.stem
    source = "texts/" if data is None else json.dumps(data, ensure_ascii=False)
    write_text(path, starter(name=name or "project", source=source, vocab_size=vocab_size))
    load_config(path, [])
    output.success(f"Wrote {path}")
    option = [] if path == Path("chatgpt.yaml") else ["--config", path]
    todo = "put your text into texts/, then " if data is None else ""
    output.next_step(f"Next: {todo}chatgpt {quoted('preprocess', *option)}")


def _vocab_size(output: Output, data: str) -> int:
    """A vocabulary that this text can have; says how much there is, and what is unreadable."""
    from chatgpt_cli.data.problems import Problem
    from chatgpt_cli.data.sources import find_files, other_kinds
    from chatgpt_cli.tokenizer.train import fitting_vocab_size

    files = find_files(data)
    size = sum(file.size for file in files)
    amount = f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} KB"
    output.line(f"{len(files)} files, {amount} in {data}")
    if others := other_kinds([data]):
        output.line(f"Files of other kinds are not read: {others}")
    small = size < _ENOUGH_BYTES
    texts: list[str] = []
    for file in files:
        for text in _texts(file):
            if not isinstance(text, Problem):
                texts.append(text)
            elif text.kind == "not UTF-8":
                output.warn(f"{text.place}: {text.reason}")
                break
            if not small:
                break
    if not small or not any(texts):
        return _LARGE_VOCAB if not small else _LARGE_VOCAB // 4
    return fitting_vocab_size(texts, min(1024, size // 100))


def _texts(file: DataFile) -> Iterator[str | Problem]:
    """A file's text, or the text in its rows' fields, piece by piece."""
    from chatgpt_cli.data.problems import Problem
    from chatgpt_cli.data.records import read_rows, read_text
    from chatgpt_cli.data.sources import TEXT_SUFFIXES

    if file.kind in TEXT_SUFFIXES:
        yield from read_text(file)
        return
    for row in read_rows(file):
        if isinstance(row, Problem):
            yield row
        else:
            yield "\n".join(one for one in row.fields.values() if isinstance(one, str))
