"""`chatgpt init`: a commented configuration to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chatgpt_cli.cli.output import Output
from chatgpt_cli.command_line import quoted


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
    vocab_size = 4096
    if data is not None:
        from chatgpt_cli.data.sources import find_files

        files = find_files(data)
        size = sum(file.size for file in files)
        output.line(f"{len(files)} files, {size / 1e6:,.1f} MB in {data}")
        if size < 400_000:
            vocab_size = 1024
    name = path.resolve().parent.name if path.stem == "chatgpt" else path.stem
    source = "texts/" if data is None else json.dumps(data, ensure_ascii=False)
    write_text(path, starter(name=name or "project", source=source, vocab_size=vocab_size))
    load_config(path, [])
    output.success(f"Wrote {path}")
    option = [] if path == Path("chatgpt.yaml") else ["--config", path]
    todo = "put your text into texts/, then " if data is None else ""
    output.next_step(f"Next: {todo}chatgpt {quoted('preprocess', *option)}")
