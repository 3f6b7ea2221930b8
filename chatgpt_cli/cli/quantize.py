"""`chatgpt quantize`: a smaller copy of the model, and what it loses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chatgpt_cli.cli import model_options as options
from chatgpt_cli.cli.evaluate import data_name
from chatgpt_cli.cli.output import Output
from chatgpt_cli.cli.project import ConfigOption, JsonOption, Project, SetOption, open_project
from chatgpt_cli.command_line import same_run
from chatgpt_cli.errors import ConfigError

if TYPE_CHECKING:
    from chatgpt_cli.evaluation.run import Results
    from chatgpt_cli.evaluation.statistics import Interval
    from chatgpt_cli.training.device import Hardware


@dataclass(frozen=True)
class Change:
    """A score before and after, of a task or of held-out data, and on how much of it."""

    task: str
    metric: str
    original: float
    quantized: float
    # In which the original's true score probably lies; none of a single document.
    interval: Interval | None
    size: str


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
    from chatgpt_cli.interop.huggingface import read_config
    from chatgpt_cli.interop.locate import locate_model
    from chatgpt_cli.interop.quantization import write_quantized
    from chatgpt_cli.training.device import choose_hardware

    base = project.config.model.from_
    located = locate_model(project.paths, model=model, stage=stage, base=base)
    before, after = write_quantized(
        located.folder, target, 8 if bits == 8 else 4, stage=located.trained_by
    )
    output = project.output
    # As `chatgpt evaluate` measures; chosen once, so that both are measured alike.
    hardware = choose_hardware(
        project.config.hardware, context_length=read_config(located.folder).context_length
    )
    output.line(str(hardware))
    measured = [
        _measure(project, folder, located.stage, hardware, tasks=tasks)
        for folder in (located.folder, target)
    ]
    changes = _changes(*measured)
    if json_output:
        precision = str(hardware.chosen()["precision"])
        output.json(_as_json(located.folder, target, before, after, changes, precision))
    _show(output, changes)
    output.success(
        f"{target}: {after / 1e6:,.1f} MB of weights instead of {before / 1e6:,.1f} MB in 32 bits, "
        f"from {located.folder}"
    )
    output.next_step(f"Next: chatgpt {same_run('chat', '--model', target)}")


def _measure(
    project: Project, folder: Path, stage: str, hardware: Hardware, *, tasks: bool
) -> Results:
    """Perplexity on held-out data, and the scores of the tasks."""
    from chatgpt_cli.evaluation.run import Subject, plan
    from chatgpt_cli.evaluation.run import evaluate as measure
    from chatgpt_cli.interop.huggingface import load_model

    loaded = load_model(folder)
    loaded.model.to(hardware.device)
    loaded.model.set_attention(hardware.attention)
    planned, _ = plan(project.config, metrics=[], tasks=[])
    subject = Subject(loaded.model, loaded.tokenizer, folder, stage, hardware)
    with project.output.progress("quantize", 1.0) as display:
        return measure(
            subject,
            project.config,
            project.paths,
            planned if tasks else [],
            text=True,
            on_task=lambda status, share: display.update(share, f"{folder.name}: {status}"),
        )


def _changes(before: Results, after: Results) -> list[Change]:
    from chatgpt_cli.evaluation.statistics import intervals

    found: list[Change] = []
    if before.held_out is not None and after.held_out is not None:
        values = before.held_out.loss.perplexity, after.held_out.loss.perplexity
        interval = intervals(before.held_out.scores())["perplexity"]
        size = f"{before.held_out.loss.tokens:,} tokens"
        found.append(Change(before.held_out.name, "perplexity", *values, interval, size))
    for one, other in zip(before.tasks, after.tasks, strict=True):
        size = f"{len(one.predictions):,} rows"
        for name, score in one.scores.items():
            values = score.value, other.scores[name].value
            found.append(Change(one.task.name, name, *values, one.intervals[name], size))
    return found


def _show(output: Output, changes: list[Change]) -> None:
    rows = [
        [
            f"{data_name(output, one.task)}, {output.words(one.size)}",
            one.metric,
            f"{one.original:.4f}",
            "–" if one.interval is None else f"{one.interval.low:.4f} – {one.interval.high:.4f}",
            f"{one.quantized:.4f}",
            f"{one.quantized / one.original - 1:+.2%}" if one.original else "",
        ]
        for one in changes
    ]
    if rows:
        columns = ["measured on", "metric", "original", "95% interval", "quantized", "change"]
        output.table("What quantization changes", columns, rows)


def _as_json(
    source: Path, target: Path, before: int, after: int, changes: list[Change], precision: str
) -> dict[str, Any]:
    scores = [
        {
            "task": one.task,
            "metric": one.metric,
            "original": one.original,
            "interval": one.interval and [one.interval.low, one.interval.high],
            "quantized": one.quantized,
            "measured_on": one.size,
        }
        for one in changes
    ]
    return {
        "model": str(source),
        "path": str(target),
        "bytes": {"float32": before, "quantized": after},
        "precision": precision,
        "scores": scores,
    }
