"""`chatgpt config`: the configuration with all defaults and overrides in place."""

from __future__ import annotations

from typing import Annotated

import typer

from chatgpt_cli.cli.project import ConfigOption, JsonOption, SetOption, open_project


def config(
    config: ConfigOption = None,
    set_: SetOption = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="The JSON Schema of the file, for editors.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Show the resolved configuration as YAML that can be used again."""
    import json

    from chatgpt_cli.config.loader import dump_config
    from chatgpt_cli.config.schema import Config, ModelSection

    if schema:
        typer.echo(json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False))
        return
    project = open_project(config, set_ or [], json_output=True)
    resolved = project.config
    from chatgpt_cli.interop.base import limitation, project_shape

    shape = project_shape(resolved.model, vocab_size=resolved.tokenizer.vocab_size)
    if (said := limitation(shape)) is not None:
        project.output.warn(said)
    project.output.line(
        f"Model: {shape.num_parameters():,} parameters, "
        f"{shape.flops_per_token():,} FLOPs per token in training"
    )
    # In the YAML a preset's choices stay open, so that another preset can be chosen there.
    choices = shape.model_dump(include=ModelSection.model_fields.keys() - {"from_", "preset"})
    project.output.line("Shape: " + json.dumps(choices).replace('"', ""))
    if json_output:
        project.output.json(resolved.model_dump(mode="json", by_alias=True))
    else:
        typer.echo(dump_config(resolved), nl=False)
