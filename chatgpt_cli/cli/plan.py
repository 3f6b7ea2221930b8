"""`chatgpt plan`: what a project will take, and what would suit it better."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from chatgpt_cli.cli.named_files import require_files
from chatgpt_cli.cli.output import Output
from chatgpt_cli.cli.project import (
    ConfigOption,
    JsonOption,
    Project,
    SetOption,
    open_project,
)
from chatgpt_cli.command_line import same_run
from chatgpt_cli.errors import ConfigError

if TYPE_CHECKING:
    from chatgpt_cli.planning.advice import SizeChoice
    from chatgpt_cli.planning.estimate import StageEstimate
    from chatgpt_cli.planning.rehearsal import Rehearsal

_TASKS = ("text", "chat", "qa", "translation", "classification")


def plan(
    config: ConfigOption = None,
    set_: SetOption = None,
    hours: Annotated[
        float | None,
        typer.Option("--hours", min=0.01, help="Compare model sizes in so many hours."),
    ] = None,
    price_per_hour: Annotated[
        float | None,
        typer.Option("--price-per-hour", min=0.0, help="What an hour of this machine costs."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", help="What the model is for: " + ", ".join(_TASKS) + "."),
    ] = None,
    nodes: Annotated[
        int, typer.Option("--nodes", min=1, help="Plan for so many machines with GPUs.")
    ] = 1,
    gpus: Annotated[
        int | None,
        typer.Option("--gpus", min=1, help="Plan for so many GPUs in each machine."),
    ] = None,
    gpu: Annotated[
        Literal["a100", "h100", "h200"] | None,
        typer.Option(help="Their kind, h100 if left out; alone, plan for one of it."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Estimate time, memory and money before training, from a few measured steps.

    With --gpus or --gpu nothing is measured: pretraining's step is computed from stated rates.
    """
    if task is not None and task not in _TASKS:
        raise ConfigError(
            f"{task!r} is not a kind of task",
            place="--task",
            remedy=f"Choose one of {', '.join(_TASKS)}.",
        )
    project = open_project(config, set_ or [], json_output=json_output)
    if gpus is not None or nodes > 1 or gpu is not None:
        in_each = gpus or (8 if nodes > 1 else 1)
        _plan_cluster(
            project, nodes, in_each, gpu or "h100", price=price_per_hour, json_output=json_output
        )
        return
    import tempfile
    from pathlib import Path

    from chatgpt_cli.planning.advice import advise, compare_sizes
    from chatgpt_cli.planning.estimate import StageEstimate, inference_bytes
    from chatgpt_cli.planning.rehearsal import rehearse
    from chatgpt_cli.training.memory import free_memory

    require_files(project, "data", "sources", "validation_sources")
    require_files(project, "finetune", "data", "validation_data")
    output, settings = project.output, project.config
    with tempfile.TemporaryDirectory(prefix="chatgpt-plan-") as folder:
        rehearsal = rehearse(settings, project.paths, Path(folder), output.line)
    if not rehearsal.stages:
        why = " ".join(rehearsal.notes) or "no data is named"
        raise ConfigError(
            f"there is nothing to plan: {why}",
            remedy="Name texts under data.sources, or rows under finetune.data.",
        )
    estimates = [StageEstimate.of(stage) for stage in rehearsal.stages]
    sizes = []
    text_tokens = rehearsal.text_tokens
    if text_tokens is not None and settings.model.from_ is None:
        seconds = 3600 * hours if hours is not None else estimates[0].seconds
        sizes = compare_sizes(settings, estimates[0], text_tokens, seconds)
    advice = advise(
        settings,
        estimates,
        sizes,
        task=task or ("chat" if settings.finetune.data else "text"),  # type: ignore[arg-type]
        text_tokens=text_tokens,
        free_memory=free_memory(rehearsal.stages[0].hardware.device),
    )
    shape = rehearsal.stages[-1].shape
    if json_output:
        output.json(
            {
                "stages": [asdict(estimate) for estimate in estimates],
                "cost": price_per_hour and sum(one.cost(price_per_hour) for one in estimates),
                "text_tokens": text_tokens,
                "inference_bytes": inference_bytes(shape),
                "sizes": [asdict(choice) for choice in sizes],
                "advice": advice,
                "notes": rehearsal.notes,
            }
        )
    else:
        output.line(str(rehearsal.stages[0].hardware))
        own = settings.model.from_ is None
        _show_stages(output, rehearsal, estimates, price_per_hour, own=own)
        memory = inference_bytes(shape)
        listed = ", ".join(f"{name} {_size(count)}" for name, count in memory.items())
        output.line(f"Memory for writing a text: {listed}")
        if sizes:
            _show_sizes(output, estimates[0].parameters, sizes, hours)
        for line in rehearsal.notes:
            output.warn(line)
        for line in advice:
            output.line(f"• {line}")
    first = "preprocess" if settings.data.sources else "finetune"
    output.next_step(f"Next: chatgpt {same_run(first)}")


def _plan_cluster(
    project: Project,
    nodes: int,
    gpus: int,
    gpu: Literal["a100", "h100", "h200"],
    *,
    price: float | None,
    json_output: bool,
) -> None:
    """Pretraining on many GPUs, with each way of dividing the model."""
    from chatgpt_cli.planning.cluster import gpu_cluster, pretraining_work, step_times
    from chatgpt_cli.planning.estimate import optimal_tokens

    output, cluster = project.output, gpu_cluster(nodes, gpus, gpu)
    work = pretraining_work(project.config)
    times = step_times(work, cluster)
    shape = work.shape
    wanted = optimal_tokens(shape)
    rows: list[list[object]] = []
    for one in times:
        seconds = wanted / one.tokens_per_second
        row: list[object] = [one.method, f"{one.at_once}", f"{one.seconds:.3f} s"]
        row += [f"{one.compute:.3f} s", f"{one.weights + one.gradients:.3f} s"]
        row += [f"{one.exposed:.3f} s", f"{one.tokens_per_second:,.0f}", f"{one.utilization:.0%}"]
        row += [_size(one.memory) + ("" if one.fits else " ✗"), _duration(seconds)]
        rows.append(row + ([f"{seconds / 3600 * price:,.0f}"] if price is not None else []))
    columns = ["divided by", "at once", "step", "computing", "sending", "not hidden", "tokens/s"]
    columns += ["of the peak", "memory", f"{_count(wanted)} tokens in"]
    output.table(
        f"{shape.num_parameters():,} parameters on {nodes} x {gpus} {gpu.upper()}, "
        f"{work.batch_size:,} sequences of {work.length:,} tokens a step (computed, not measured)",
        columns + (["cost"] if price is not None else []),
        rows,
        worded=columns[-1:],
    )
    if json_output:
        output.json({"steps": [asdict(one) for one in times], "cluster": asdict(cluster)})
    if not any(one.fits for one in times):
        output.warn("✗: more than 90% of a GPU's memory. Take more GPUs, or a shorter sequence.")
    output.next_step("What is assumed stands in docs/scaling.md")


def _show_stages(
    output: Output,
    rehearsal: Rehearsal,
    estimates: list[StageEstimate],
    price: float | None,
    *,
    own: bool,
) -> None:
    """What each stage takes; of a model that is trained from nothing (`own`), what suits it."""
    from chatgpt_cli.planning.estimate import optimal_tokens

    columns = ["stage", "parameters", "steps", "tokens", "epochs", "FLOPs", "tokens/s", "memory"]
    rows: list[list[object]] = []
    for one in estimates:
        trained = "" if one.trained == one.parameters else f" ({one.trained:,} trained)"
        row: list[object] = [one.name, f"{one.parameters:,}{trained}", f"{one.steps:,.0f}"]
        row += [_count(one.tokens), f"{one.epochs:,.2f}", f"{one.flops:.1e}"]
        row += [f"{one.tokens_per_second:,.0f}", _size(one.memory), _duration(one.seconds)]
        rows.append(row + ([f"{one.cost(price):,.2f}"] if price is not None else []))
    columns += ["time", "cost"] if price is not None else ["time"]
    output.table(
        "To the end of the budget, on this machine", columns, rows, worded=["parameters", "time"]
    )
    total = sum(one.seconds for one in estimates)
    cost = "" if price is None else f", {sum(one.cost(price) for one in estimates):,.2f} in money"
    output.line(f"Training in all: {_duration(total)}{cost}. Early stopping may end it sooner.")
    if rehearsal.text_tokens is not None and estimates[0].name == "pretrain":
        text, read = _count(rehearsal.text_tokens), _count(estimates[0].tokens)
        if own:
            wanted = _count(optimal_tokens(rehearsal.stages[0].shape))
            output.line(
                f"Compute-optimal for this model: {wanted} tokens; the text has {text}, the budget "
                f"reads {read}"
            )
        else:
            output.line(f"The text has {text} training tokens, the budget reads {read}")


def _show_sizes(output: Output, own: int, sizes: list[SizeChoice], hours: float | None) -> None:
    said = "the pretraining's time" if hours is None else f"{hours:g} hours"
    rows = [
        [
            one.preset + (" (this)" if one.parameters == own else ""),
            f"{one.parameters:,}",
            _count(one.tokens),
            f"{one.epochs:,.1f}",
            _duration(one.optimal_seconds),
            "★" if one.best else "",
        ]
        for one in sizes
    ]
    output.table(
        f"Sizes in {said} on this text",
        ["preset", "parameters", "tokens read", "epochs", "compute-optimal in", "expected best"],
        rows,
        worded=["preset", "compute-optimal in"],
    )


def _count(tokens: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:,.1f}{letter}"
    return f"{tokens:,.0f}"


def _size(count: float) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:,.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:,.1f} min"
    return f"{seconds / 3600:,.1f} h" if seconds < 172_800 else f"{seconds / 86_400:,.1f} days"
