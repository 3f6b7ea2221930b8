"""`chatgpt report`: all that is known of a run, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from chatgpt_cli.cli import model_options as options
from chatgpt_cli.cli.output import Output
from chatgpt_cli.cli.project import (
    ConfigOption,
    JsonOption,
    Project,
    SetOption,
    open_project,
)
from chatgpt_cli.command_line import same_run

if TYPE_CHECKING:
    from chatgpt_cli.evaluation.inspection import Inspection
    from chatgpt_cli.evaluation.report.run_page import RunReport

_Service = Literal["tensorboard", "wandb", "trackio"]

_TOKENS = 40
_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 40


def report(
    config: ConfigOption = None,
    set_: SetOption = None,
    sentence: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Look inside the model at this sentence: a question for a finetuned model, the "
            "beginning of a text for a base model. Left out: a test question it got wrong.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Left out: report.html in the run."),
    ] = None,
    track: Annotated[
        _Service | None,
        typer.Option(help="Give the curves to this tracker, so far as it has not got them."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Write one page about a run: curves, scores, answers, a look inside, what to do next."""
    project = open_project(config, list(set_ or []), json_output=json_output)
    from dataclasses import replace

    from chatgpt_cli.errors import DataError
    from chatgpt_cli.evaluation.report.run_page import read_run, write_run_page
    from chatgpt_cli.reproduction.record import recorded_settings

    paths = project.paths
    run = read_run(paths, settings=recorded_settings(paths))
    if not any(run.stages.values()) and run.evaluation is None:
        raise DataError(
            "there is nothing to report yet",
            place=str(paths.root),
            remedy=f"Run chatgpt {same_run('pretrain')} first.",
        )
    run = replace(run, inspection=_look_inside(project, run, sentence))
    target = output or paths.root / "report.html"
    write_run_page(target, run)
    if json_output:
        project.output.json({"report": str(target)})
    _show(project.output, run)
    if track is not None:
        _track(project, track)
    project.output.success(f"Report: {target}")


def _track(project: Project, service: _Service) -> None:
    """What a tracker does beside training, for the stages that there are."""
    from chatgpt_cli.cli.training_view import show_note
    from chatgpt_cli.config.paths import STAGES
    from chatgpt_cli.tracking.live import Trackers
    from chatgpt_cli.tracking.services import require

    require([service])
    for stage in map(project.paths.stage, STAGES):
        if stage.metrics.exists():
            with Trackers(
                [service],
                stage,
                group=project.paths.root.name,
                tell=lambda note: show_note(project.output, note),
            ) as trackers:
                trackers.start()


def _look_inside(project: Project, run: RunReport, sentence: str | None) -> Inspection | None:
    """The model's view of a sentence and of its own answer; None without a model."""
    from chatgpt_cli.errors import ModelError
    from chatgpt_cli.evaluation.inspection import inspect
    from chatgpt_cli.generation.engine import complete
    from chatgpt_cli.generation.sampling import Sampling
    from chatgpt_cli.tokenizer.chat import Message, render

    try:
        opened = options.open_model(project, model=None, stage="auto")
    except ModelError:
        return None
    model, tokenizer = opened.loaded.model, opened.loaded.tokenizer
    if model.config.labels:
        # It says nothing; there is no next token to look at.
        return None
    text = sentence or _chosen(project, run)
    if not opened.loaded.config.causal:
        return inspect(model, tokenizer, tokenizer.beginning(text))
    if opened.converses:
        system = options.system_prompt(project, opened.stage)
        turns = [Message("system", system)] if system else []
        asked = [*turns, Message("user", text)]
        prompt = render(asked, tokenizer, add_generation_prompt=True).ids
    else:
        prompt = tokenizer.beginning(text)
    sampling = Sampling(max_tokens=_TOKENS, temperature=0.0, seed=0)
    (answer,) = complete(model, tokenizer, [prompt], sampling, stop_ids=tokenizer.stop_ids)
    return inspect(model, tokenizer, [*prompt, *answer.ids])


def _chosen(project: Project, run: RunReport) -> str:
    """A short test question that was answered wrongly, else one of the configuration's."""
    if run.evaluation is not None:
        rows = [row for found in run.evaluation.predictions.values() for row in found]
        wrong = [row["prompt"] for row in rows if row["prediction"] not in row["references"]]
        if wrong:
            return str(min(wrong, key=len))
    prompts = [*project.config.generate.sample_prompts, *project.config.pretrain.sample_prompts]
    return prompts[0] if prompts else "Hello"


def _show(output: Output, run: RunReport) -> None:
    """The same in short: a line for each curve, and the scores."""
    from chatgpt_cli.evaluation.verdict import series, smooth

    rows = []
    for stage, records in run.stages.items():
        for name, points in (
            ("training loss", smooth(series(records, "train", "loss"))),
            ("validation loss", series(records, "validation", "loss")),
        ):
            values = [value for _, value in points]
            if values:
                ends = f"{values[0]:.3f} → {values[-1]:.3f}"
                rows.append([stage, output.words(name), sparkline(values), ends])
    if rows:
        output.table("Curves", ["stage", "", "", "from and to"], rows)
    if run.evaluation is None:
        return
    if run.outdated:
        output.warn(run.outdated)
    rows = [
        [
            task,
            name,
            f"{metric['value']:.{metric['digits']}f}",
            "–"
            if metric["interval"] is None
            else f"{metric['interval'][0]:.{metric['digits']}f} – "
            f"{metric['interval'][1]:.{metric['digits']}f}",
        ]
        for task, entry in run.evaluation.content["tasks"].items()
        for name, metric in entry["metrics"].items()
    ]
    if rows:
        output.table("Scores", ["task", "metric", "score", "95% interval"], rows)


def sparkline(values: list[float]) -> str:
    """A curve in one line of text: each character the mean of a stretch of values."""
    import math
    from itertools import pairwise

    values = [value for value in values if math.isfinite(value)]
    if not values:
        return ""
    count = min(_WIDTH, len(values))
    edges = [round(index * len(values) / count) for index in range(count + 1)]
    means = [sum(values[start:stop]) / (stop - start) for start, stop in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in means)
