"""`chatgpt evaluate`: scores on held-out data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from chatgpt_cli.cli import model_options as options
from chatgpt_cli.cli.launch import NprocOption, launch_several
from chatgpt_cli.cli.output import Output
from chatgpt_cli.cli.project import (
    ConfigOption,
    JsonOption,
    Project,
    SetOption,
    open_project,
)
from chatgpt_cli.command_line import same_run
from chatgpt_cli.errors import DataError
from chatgpt_cli.ranks import this_rank

if TYPE_CHECKING:
    from chatgpt_cli.cli.model_options import OpenModel
    from chatgpt_cli.evaluation.metrics.score import Score
    from chatgpt_cli.evaluation.run import Results
    from chatgpt_cli.evaluation.statistics import Interval
    from chatgpt_cli.interop.locate import Stage


def evaluate(
    context: typer.Context,
    config: ConfigOption = None,
    set_: SetOption = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this metric, such as perplexity, accuracy, f1, exact_match, rouge_l, bleu, "
            "chrf++ or ter (docs/evaluation.md lists all). Can be repeated."
        ),
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task. Can be repeated.")] = None,
    max_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows of each task at most.", show_default=False)
    ] = None,
    show: Annotated[
        int, typer.Option(min=0, help="Show so many of the worst answers of each task.")
    ] = 0,
    model: options.ModelOption = None,
    stage: options.StageOption = "auto",
    nproc: NprocOption = 1,
    json_output: JsonOption = False,
) -> None:
    """Let the model answer held-out rows, and score the answers."""
    implied = [] if max_rows is None else [f"evaluate.max_rows={max_rows}"]
    launch_several(context, nproc, config, [*(set_ or []), *implied])
    project = open_project(config, set_ or [], json_output=json_output, implied=implied)
    from chatgpt_cli.training.distributed import process_group

    with process_group(timeout=2 * project.config.hardware.rank_timeout):
        _evaluate(
            project, metric or [], task or [], show, model=model, stage=stage, as_json=json_output
        )


def _evaluate(
    project: Project,
    metrics: list[str],
    tasks: list[str],
    show: int,
    *,
    model: Path | None,
    stage: Stage,
    as_json: bool,
) -> None:
    measured = score(project, metrics, tasks, model=model, stage=stage)
    if measured is None:
        return
    output = project.output
    content, results, opened = measured
    if as_json:
        output.json(content)
    _show(output, results, show)
    for note in results.notes:
        output.warn(note)
    for result in results.tasks:
        seen = 0 if result.overlap is None else sum(result.overlap.seen)
        if seen:
            rows = f"{seen:,} of {len(result.predictions):,} questions"
            output.warn(f"{result.task.name}: {rows} stand in the training data, see the report.")
    answers = f" Every answer: {project.paths.evaluate / 'predictions.jsonl'}."
    output.success(
        f"Scores: {project.paths.evaluate / 'results.json'}.{answers if results.tasks else ''} "
        f"Report: {project.paths.evaluate / 'report.html'}"
    )
    output.next_step(f"Next: chatgpt {_following(project, opened, model, stage)}")


def score(
    project: Project,
    metrics: list[str],
    tasks: list[str],
    *,
    model: Path | None,
    stage: Stage,
) -> tuple[dict[str, Any], Results, OpenModel] | None:
    """Score a model and write all of it down; None in the processes that only help.

    Args:
        project: the loaded configuration, and the run to write to.
        metrics: only these, if there are any.
        tasks: only these, if there are any.
        model: another model than the run's own.
        stage: the stage whose model is scored.

    Returns:
        What results.json holds, what it was made from, and the model.

    Raises:
        ChatGPTError: if the model or a task's rows cannot be used, or there is nothing to measure.
    """
    from chatgpt_cli.evaluation.report.run_page import write_evaluation_page
    from chatgpt_cli.evaluation.results import fuller, write_results
    from chatgpt_cli.evaluation.run import Subject, plan, plan_texts
    from chatgpt_cli.evaluation.run import evaluate as measure
    from chatgpt_cli.reproduction.evaluated import record_evaluation
    from chatgpt_cli.training.device import choose_hardware
    from chatgpt_cli.training.distributed import locked

    output = project.output
    planned, text = plan(project.config, metrics=metrics, tasks=tasks)
    texts = plan_texts(project.config, metrics=metrics, tasks=tasks)
    opened = options.open_model(project, model=model, stage=stage)
    shape = opened.loaded.config
    hardware = choose_hardware(project.config.hardware, context_length=shape.context_length)
    subject = Subject(
        opened.loaded.model, opened.loaded.tokenizer, opened.folder, opened.stage, hardware
    )
    output.line(f"Model: {opened.folder}")
    output.line(str(hardware))
    folder = project.paths.evaluate
    if replaced := fuller(folder, planned, project.config.evaluate.max_rows):
        output.warn(
            f"This replaces earlier scores of more rows, metrics or tasks ({replaced}). To keep "
            f"them, end it with Ctrl-C and copy {folder} first."
        )
    # Besides the tasks: held-out data, and the look for rows seen in training.
    with (
        locked(folder, "evaluate"),
        output.progress("evaluate", len(planned) + len(texts) + 2) as display,
    ):
        done = 0
        current = ""

        def on_task(status: str, share: float) -> None:
            nonlocal done, current
            name = status.partition(":")[0]
            if name != current:
                done, current = done + (current != ""), name
            display.update(done + share, status)

        results = measure(
            subject, project.config, project.paths, planned, text=text, texts=texts, on_task=on_task
        )
        if not this_rank().is_first:
            return None
        if note := options.unfinished(project, opened):
            results.notes.append(note)
        if results.held_out is None and not (results.texts or results.tasks):
            raise DataError(
                f"nothing could be measured. {' '.join(results.notes)}",
                remedy="Name tasks under evaluate.tasks, or rows under finetune.data.",
            )
        content = write_results(folder, subject, results)
        record_evaluation(project.paths, project.config, content, hardware.chosen())
        write_evaluation_page(folder)
    return content, results, opened


def _following(project: Project, opened: OpenModel, model: Path | None, stage: Stage) -> str:
    """What to do with the model that was measured: only one that has learnt to can chat."""
    prompts = project.config.pretrain.sample_prompts
    beginning = prompts[0] if prompts else "Once upon a time"
    chosen: list[object] = [] if model is None else ["--model", model]
    chosen += [] if stage == "auto" else ["--stage", stage]
    shape = opened.loaded.config
    if shape.labels:
        return same_run("generate", *chosen, "A text")
    if not shape.causal:
        return same_run("generate", *chosen, "The [MASK] is blue.")
    if opened.converses or opened.stage == "model":
        return same_run("chat", *chosen)
    if opened.stage == "pretrain" and not chosen and project.config.finetune.data:
        return same_run("finetune")
    return same_run("generate", *chosen, beginning)


def _show(output: Output, results: Results, worst: int) -> None:
    from chatgpt_cli.evaluation.statistics import intervals

    rows = []
    held_out = [] if results.held_out is None else [results.held_out]
    for one in (*held_out, *results.texts):
        scores = one.scores()
        ranges = intervals(scores)
        size = f"{one.loss.tokens:,} tokens"
        for name, score in scores.items():
            task = data_name(output, one.name) if one is results.held_out else one.name
            rows.append(_row(task, name, score, ranges[name], size))
    for result in results.tasks:
        size = f"{len(result.predictions):,} rows"
        for name, score in result.scores.items():
            rows.append(_row(result.task.name, name, score, result.intervals[name], size))
    if rows:
        columns = ["task", "metric", "score", "95% interval", "measured on"]
        output.table("Scores on held-out data", columns, rows, worded=["measured on"])
    for signature in dict.fromkeys(
        f"{name}: {score.signature}"
        for result in results.tasks
        for name, score in result.scores.items()
        if score.signature
    ):
        output.line(signature)
    for result in results.tasks:
        first, score = next(iter(result.scores.items()))
        ranked = sorted(
            result.predictions,
            key=lambda row: float(row["scores"][first]),
            reverse=score.better == "lower",
        )
        for row in ranked[:worst]:
            output.line(
                f"\n{result.task.name} ({row['place']}), {first} {row['scores'][first]:.2f}"
            )
            output.line(f"  asked:    {row['prompt']}")
            output.line(f"  answered: {row['prediction']}")
            output.line(f"  expected: {' | '.join(row['references'])}")


def data_name(output: Output, task: str) -> str:
    """What a score is of: a task has its own name, held-out data one in each language."""
    from chatgpt_cli.evaluation.run import HeldOutName

    if task == "held-out text":
        # It chose the checkpoint, and is no test.
        return output.words("held-out text (validation split)")
    return output.words(task) if task in get_args(HeldOutName) else task


def _row(task: str, name: str, score: Score, interval: Interval | None, size: str) -> list[str]:
    value, ends = f"{score.value:.{score.digits}f}", "–"
    if interval is not None:
        ends = f"{interval.low:.{score.digits}f} – {interval.high:.{score.digits}f}"
    return [task, name, value, ends, size]
