"""What every command begins with: its options, and the project they name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chatgpt_cli.cli.output import Output
from chatgpt_cli.command_line import remember

if TYPE_CHECKING:
    from chatgpt_cli.config.paths import RunPaths
    from chatgpt_cli.config.schema import Config

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The project's YAML file, or the name of a built-in one. "
        "Left out: chatgpt.yaml in this folder, else the built-in quickstart.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one setting, such as pretrain.learning_rate=3e-4. Can be repeated.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="The result as JSON on stdout, all else on stderr.")
]


@dataclass(frozen=True)
class Project:
    """A loaded configuration, its files, and where to write."""

    config: Config
    paths: RunPaths
    source: str
    output: Output
    # What --set changed.
    overrides: list[str]
    # "file:line" of a setting, given its key.
    place_of: Callable[[tuple[str | int, ...]], str]


def open_project(
    config: Path | None, overrides: list[str], *, json_output: bool, implied: Sequence[str] = ()
) -> Project:
    """Load the configuration and say which one it is.

    Args:
        config: what --config said.
        overrides: what each --set said; commands that are suggested later repeat both.
        json_output: whether stdout is for JSON alone.
        implied: settings that other options of the command stand for.

    Raises:
        ConfigError: if it is missing or wrong.
    """
    from chatgpt_cli.config.loader import load_config
    from chatgpt_cli.config.paths import RunPaths

    loaded = load_config(config, [*overrides, *implied])
    remember(config, overrides, loaded.config.run_dir)
    output = Output(json_output=json_output)
    output.line(f"Configuration: {loaded.source}. Results: {loaded.config.run_dir}")
    paths = RunPaths(loaded.config.run_dir)
    return Project(loaded.config, paths, loaded.source, output, overrides, loaded.place)
