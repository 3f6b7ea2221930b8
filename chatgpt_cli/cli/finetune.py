"""`chatgpt finetune`."""

from __future__ import annotations

import typer

from chatgpt_cli.cli.launch import NprocOption, launch_several
from chatgpt_cli.cli.named_files import require_files
from chatgpt_cli.cli.project import ConfigOption, JsonOption, SetOption, open_project
from chatgpt_cli.cli.training_view import RestartOption, ResumeOption, train


def finetune(
    context: typer.Context,
    config: ConfigOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    restart: RestartOption = False,
    nproc: NprocOption = 1,
    json_output: JsonOption = False,
) -> None:
    """Train the base model on supervised rows, to an assistant."""
    launch_several(context, nproc, config, set_)
    project = open_project(config, set_ or [], json_output=json_output)
    require_files(project, "finetune", "data", "validation_data")
    from chatgpt_cli.training.finetune import finetune as run

    code = train(
        project,
        command="finetune",
        stage=project.paths.finetune,
        resume=resume,
        restart=restart,
        json_output=json_output,
        work=lambda mode, observe: run(project.config, project.paths, mode=mode, observe=observe),
        nproc=nproc,
        following="evaluate",
    )
    raise typer.Exit(code)
