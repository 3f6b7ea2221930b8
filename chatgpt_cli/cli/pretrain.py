"""`chatgpt pretrain`."""

from __future__ import annotations

import typer

from chatgpt_cli.cli.launch import NprocOption, launch_several
from chatgpt_cli.cli.project import ConfigOption, JsonOption, Project, SetOption, open_project
from chatgpt_cli.cli.training_view import RestartOption, ResumeOption, train
from chatgpt_cli.command_line import same_run


def pretrain(
    context: typer.Context,
    config: ConfigOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    restart: RestartOption = False,
    nproc: NprocOption = 1,
    json_output: JsonOption = False,
) -> None:
    """Train a base model on the preprocessed text."""
    launch_several(context, nproc, config, set_)
    project = open_project(config, set_ or [], json_output=json_output)
    from chatgpt_cli.training.pretrain import pretrain as run

    _warn_of_unused(project)

    code = train(
        project,
        command="pretrain",
        stage=project.paths.pretrain,
        resume=resume,
        restart=restart,
        json_output=json_output,
        work=lambda mode, observe: run(project.config, project.paths, mode=mode, observe=observe),
        nproc=nproc,
        following="finetune",
    )
    raise typer.Exit(code)


def _warn_of_unused(project: Project) -> None:
    """Say so if what the text was preprocessed with is not what the configuration says."""
    from chatgpt_cli.config.schema import HOW_IT_IS_DONE
    from chatgpt_cli.provenance import read_record
    from chatgpt_cli.training.start import differences

    recorded = read_record(project.paths.data)
    if not recorded:
        return
    for section in ("data", "tokenizer"):
        now = getattr(project.config, section).model_dump(mode="json", by_alias=True)
        recorded_there = recorded[-1].config[section].items()
        known = now.keys() - HOW_IT_IS_DONE
        then = {key: value for key, value in recorded_there if key in known}
        for line in differences(then, {key: now[key] for key in then}):
            project.output.warn(
                f"{section}.{line} has changed since the text was preprocessed, and has no "
                f"effect until `chatgpt {same_run('preprocess')}` runs again."
            )
