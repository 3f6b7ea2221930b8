"""`chatgpt distill-data`: rows to finetune on, written by a larger model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from chatgpt_cli.cli.project import ConfigOption, JsonOption, SetOption, open_project
from chatgpt_cli.command_line import same_run
from chatgpt_cli.errors import ConfigError


def distill_data(
    config: ConfigOption = None,
    set_: SetOption = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="What to ask, a prompt a line or row. Can be repeated."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The .jsonl file that rows are added to.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible address, up to /v1.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model to ask there.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Ask a larger model for answers; started again, it asks only what is missing."""
    given = {"url": url, "model": model, "to": None if to is None else str(to), "prompts": prompts}
    implied = [f"distill_data.{key}={json.dumps(value)}" for key, value in given.items() if value]
    project = open_project(config, set_ or [], json_output=json_output, implied=implied)
    section = project.config.distill_data
    if section is None:
        raise ConfigError(
            "distill_data says whom to ask, and there is none",
            remedy="Give --url, --model, --prompts and --to, or set these under distill_data.",
        )
    from chatgpt_cli.interop.distill_data import distill_data as run
    from chatgpt_cli.interop.endpoint import Endpoint

    output = project.output
    endpoint = Endpoint(section, "the model", "distill_data")
    with output.progress("distill-data", 1.0) as display:
        spent = run(
            section,
            on_progress=lambda done, all_: display.update(done / all_, f"{done:,} / {all_:,}"),
            endpoint=endpoint,
        )
    if json_output:
        output.json({"to": str(section.to), **asdict(spent)})
    if spent.failed:
        output.warn(f"{spent.failed:,} prompts had no answer ({spent.problem}): run it again.")
    if spent.cut:
        output.warn(f"{spent.cut:,} answers were cut off or empty and left out (max_tokens).")
    cost = "" if spent.cost is None else f", cost {spent.cost:,.4f}"
    output.success(
        f"{section.to}: {spent.written:,} rows written, {spent.known:,} were there; "
        f"{spent.prompt_tokens:,} + {spent.completion_tokens:,} tokens{cost}"
    )
    rows = f"finetune.data={json.dumps([str(section.to)], ensure_ascii=False)}"
    output.next_step(f"Next: chatgpt {same_run('finetune', '--set', rows)}")
    if spent.failed:
        raise typer.Exit(1)
