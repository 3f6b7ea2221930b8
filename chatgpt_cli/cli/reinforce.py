"""`chatgpt reinforce`."""

from __future__ import annotations

import typer

from chatgpt_cli.cli.project import ConfigOption, JsonOption, SetOption, open_project
from chatgpt_cli.cli.training_view import RestartOption, ResumeOption, train


def reinforce(
    config: ConfigOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    restart: RestartOption = False,
    json_output: JsonOption = False,
) -> None:
    """Train the assistant on which of its own answers are right (GRPO)."""
    project = open_project(config, set_ or [], json_output=json_output)
    from chatgpt_cli.training.reinforce import reinforce as run

    code = train(
        project,
        command="reinforce",
        stage=project.paths.reinforce,
        resume=resume,
        restart=restart,
        json_output=json_output,
        work=lambda mode, observe: run(project.config, project.paths, mode=mode, observe=observe),
        following="evaluate",
    )
    raise typer.Exit(code)
