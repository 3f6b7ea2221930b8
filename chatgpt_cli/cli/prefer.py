"""`chatgpt prefer`."""

from __future__ import annotations

import typer

from chatgpt_cli.cli.launch import NprocOption, launch_several
from chatgpt_cli.cli.project import ConfigOption, JsonOption, SetOption, open_project
from chatgpt_cli.cli.training_view import RestartOption, ResumeOption, train


def prefer(
    context: typer.Context,
    config: ConfigOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    restart: RestartOption = False,
    nproc: NprocOption = 1,
    json_output: JsonOption = False,
) -> None:
    """Train the assistant on pairs of a better and a worse answer (DPO)."""
    launch_several(context, nproc, config, set_)
    project = open_project(config, set_ or [], json_output=json_output)
    from chatgpt_cli.training.prefer import prefer as run

    code = train(
        project,
        command="prefer",
        stage=project.paths.prefer,
        resume=resume,
        restart=restart,
        json_output=json_output,
        work=lambda mode, observe: run(project.config, project.paths, mode=mode, observe=observe),
        nproc=nproc,
        following="evaluate",
    )
    raise typer.Exit(code)
