"""`chatgpt quantize`: a smaller copy of the model, and what it loses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chatgpt_cli.cli import model_options as options
from chatgpt_cli.cli.evaluate import data_name
from chatgpt_cli.cli.output import Output
from chatgpt_cli.cli.project import ConfigOption, JsonOption, SetOption, open_project
from chatgpt_cli.command_line import same_run
from chatgpt_cli.errors import ConfigError

if TYPE_CHECKING:
    from chatgpt_cli.config.paths import RunPaths
    from chatgpt_cli.config.schema import Config
    from chatgpt_cli.evaluation.run import Results

# task (or held-out data), metric: the original's value and the copy's
Change = tuple[str, str, float, float]


def quantize(
    config: ConfigOption = None,
    set_: SetOption = None,
    bits: Annotated[
        int, typer.Option(help="8: half of 16 bits, hardly a loss. 4: a quarter, some loss.")
    ] = 8,
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write; left out, in the run directory."),
    ] = None,
    tasks: Annotated[
        bool, typer.Option(help="Score both on the tasks of evaluate.tasks as well.")
    ] = True,
    max_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows of each task at most.", show_default=False)
    ] = None,
    model: options.ModelOption = None,
    stage: options.StageOption = "auto",
    json_output: JsonOption = False,
) -> None:
    """Write the model with its weights in 8 or 4 bits, and measure what that changes."""
    implied = ["evaluate.contamination=false"]
    if max_rows is not None:
        implied.append(f"evaluate.max_rows={max_rows}")
    project = open_project(config, set_ or [], json_output=json_output, implied=implied)
    if bits not in (4, 8):
        raise ConfigError(
            f"weights cannot be written in {bits} bits", place="--bits", remedy="Choose 8 or 4."
        )
    target = to or project.paths.root / "quantize" / f"int{bits}"
    if target.exists():
        raise ConfigError(
            "there is something already", place=str(target), remedy="Choose another with --to."
        )
    from chatgpt_cli.interop.locate import locate_model
    from chatgpt_cli.interop.quantization import write_quantized

    base = project.config.model.from_
    located = locate_model(project.paths, model=model, stage=stage, base=base)
    before, after = write_quantized(located.folder, target, 8 if bits == 8 else 4)
    output = project.output
    measured = [
        _measure(project.config, project.paths, folder, located.stage, output, tasks=tasks)
        for folder in (located.folder, target)
    ]
    changes = _changes(*measured)
    if json_output:
        output.json(_as_json(located.folder, target, before, after, changes))
    _show(output, changes)
    output.success(
        f"{target}: {after / 1e6:,.1f} MB of weights instead of {before / 1e6:,.1f} MB in 32 bits, "
        f"from {located.folder}"
    )
    output.next_step(f"Next: chatgpt {same_run('chat', '--model', target)}")


def _measure(
    config: Config, paths: RunPaths, folder: Path, stage: str, output: Output, *, tasks: bool
) -> Results:
    """Perplexity on held-out data, and the scores of the tasks."""
    from chatgpt_cli.evaluation.run import Subject, plan
    from chatgpt_cli.evaluation.run import evaluate as measure
    from chatgpt_cli.interop.huggingface import load_model
    from chatgpt_cli.training.device import choose_hardware

    loaded = load_model(folder)
    hardware = choose_hardware(
        config.hardware.model_copy(update={"precision": "float32"}),
        context_length=loaded.config.context_length,
    )
    loaded.model.to(hardware.device)
    loaded.model.set_attention(hardware.attention)
    planned, _ = plan(config, metrics=[], tasks=[])
    subject = Subject(loaded.model, loaded.tokenizer, folder, stage, hardware)
    with output.progress("quantize", 1.0) as display:
        return measure(
            subject,
            config,
            paths,
            planned if tasks else [],
            text=True,
            on_task=lambda status, share: display.update(share, f"{folder.name}: {status}"),
        )


def _changes(before: Results, after: Results) -> list[Change]:
    found: list[Change] = []
    if before.held_out is not None and after.held_out is not None:
        pairs = before.held_out.loss.perplexity, after.held_out.loss.perplexity
        found.append((before.held_out.name, "perplexity", *pairs))
    for one, other in zip(before.tasks, after.tasks, strict=True):
        for name, score in one.scores.items():
            found.append((one.task.name, name, score.value, other.scores[name].value))
    return found


def _show(output: Output, changes: list[Change]) -> None:
    rows = [
        [
            data_name(output, task),
            metric,
            f"{old:.4f}",
            f"{new:.4f}",
            f"{new / old - 1:+.2%}" if old else "",
        ]
        for task, metric, old, new in changes
    ]
    if rows:
        columns = ["measured on", "metric", "original", "quantized", "change"]
        output.table("What quantization changes", columns, rows)


def _as_json(
    source: Path, target: Path, before: int, after: int, changes: list[Change]
) -> dict[str, Any]:
    scores = [
        {"task": task, "metric": metric, "original": old, "quantized": new}
        for task, metric, old, new in changes
    ]
    return {
        "model": str(source),
        "path": str(target),
        "bytes": {"float32": before, "quantized": after},
        "scores": scores,
    }
