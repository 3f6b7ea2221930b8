"""`chatgpt evaluate`: scores on held-out data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chatgpt_cli.cli import model_options as options
from chatgpt_cli.cli.output import Output
from chatgpt_cli.cli.project import ConfigOption, JsonOption, SetOption, config_option, open_project

if TYPE_CHECKING:
    from chatgpt_cli.evaluation.run import Results


def evaluate(
    config: ConfigOption = None,
    set_: SetOption = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this metric: perplexity, bits_per_byte, accuracy, f1, exact_match, bleu or "
            "chrf. Can be repeated."
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
    json_output: JsonOption = False,
) -> None:
    """Let the model answer held-out rows, and score the answers."""
    overrides = list(set_ or [])
    if max_rows is not None:
        overrides.append(f"evaluate.max_rows={max_rows}")
    project = open_project(config, overrides, json_output=json_output)
    from chatgpt_cli.evaluation.run import Subject, plan, write_results
    from chatgpt_cli.evaluation.run import evaluate as measure
    from chatgpt_cli.training.device import choose_hardware

    output = project.output
    planned, text = plan(project.config, metrics=metric or [], tasks=task or [])
    opened = options.open_model(project, model=model, stage=stage)
    shape = opened.loaded.config
    hardware = choose_hardware(project.config.hardware, context_length=shape.context_length)
    subject = Subject(
        opened.loaded.model, opened.loaded.tokenizer, opened.folder, opened.stage, hardware
    )
    output.line(f"Model: {opened.folder}")
    with output.progress("evaluate", max(1, len(planned))) as display:
        done = 0
        current = ""

        def on_task(status: str, share: float) -> None:
            nonlocal done, current
            name = status.partition(":")[0]
            if name != current:
                done, current = done + (current != ""), name
            display.update(done + share, status)

        results = measure(
            subject, project.config, project.paths, planned, text=text, on_task=on_task
        )
    content = write_results(project.paths.evaluate, subject, results)
    if json_output:
        output.json(content)
    _show(output, results, show)
    for note in results.notes:
        output.warn(note)
    answers = f" Every answer: {project.paths.evaluate / 'predictions.jsonl'}"
    output.success(
        f"Scores: {project.paths.evaluate / 'results.json'}.{answers if results.tasks else ''}"
    )
    output.next_step(f"Next: chatgpt chat{config_option(project)}")


_SHARES = ("accuracy", "f1", "exact_match")


def _show(output: Output, results: Results, worst: int) -> None:
    rows = []
    if results.held_out is not None:
        data, loss = results.held_out.name, results.held_out.loss
        size = f"{loss.tokens:,} tokens"
        rows.append([data, "perplexity", f"{loss.perplexity:.2f}", size])
        if loss.bits_per_byte is not None:
            rows.append([data, "bits per byte", f"{loss.bits_per_byte:.3f}", size])
    for result in results.tasks:
        for name, score in result.scores.items():
            value = f"{score.value:.3f}" if name in _SHARES else f"{score.value:.1f}"
            rows.append([result.task.name, name, value, f"{len(result.predictions):,} rows"])
    if rows:
        output.table("Scores on held-out data", ["task", "metric", "score", "measured on"], rows)
    for signature in dict.fromkeys(
        f"{name}: {score.signature}"
        for result in results.tasks
        for name, score in result.scores.items()
        if score.signature
    ):
        output.line(signature)
    for result in results.tasks:
        first = next(iter(result.scores))
        ranked = sorted(result.predictions, key=lambda row: float(row["scores"][first]))
        for row in ranked[:worst]:
            output.line(
                f"\n{result.task.name} ({row['place']}), {first} {row['scores'][first]:.2f}"
            )
            output.line(f"  asked:    {row['prompt']}")
            output.line(f"  answered: {row['prediction']}")
            output.line(f"  expected: {' | '.join(row['references'])}")
