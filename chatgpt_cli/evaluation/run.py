"""Measuring a model: which tasks and metrics, and what is written of the results."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from chatgpt_cli import __version__
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config, TaskSection
from chatgpt_cli.data.batch import Batch
from chatgpt_cli.data.sft import held_out_conversations
from chatgpt_cli.errors import ConfigError, DataError
from chatgpt_cli.evaluation.metrics import LIKELIHOOD, METRICS
from chatgpt_cli.evaluation.tasks import TaskResult, run_task
from chatgpt_cli.files import write_json, write_text
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.pretrain import held_out_batches
from chatgpt_cli.training.validation import ValidationLoss, evaluate_loss


@dataclass(frozen=True)
class Subject:
    """The model that is measured, and where it comes from."""

    model: Transformer
    tokenizer: Tokenizer
    folder: Path
    stage: str
    hardware: Hardware


HeldOutName = Literal["held-out text", "held-out answers"]


@dataclass(frozen=True)
class HeldOut:
    """The loss on data that training kept aside, and what the data is."""

    name: HeldOutName
    loss: ValidationLoss


@dataclass
class Results:
    """Everything that was measured. `notes` say what was not, and why."""

    tasks: list[TaskResult] = field(default_factory=list)
    held_out: HeldOut | None = None
    notes: list[str] = field(default_factory=list)


def plan(
    config: Config, *, metrics: list[str], tasks: list[str]
) -> tuple[list[tuple[TaskSection, list[str]]], bool]:
    """Which metrics of which tasks to compute, and whether held-out data is wanted.

    With no metric named, each task has its own and the loss is measured too. A metric
    that no chosen task declares is computed for all of them.

    Raises:
        ConfigError: for a metric or task that does not exist, naming the nearest.
    """
    known = [*METRICS, *LIKELIHOOD]
    for name in metrics:
        if name not in known:
            raise ConfigError(
                f"--metric {name} is not one of {', '.join(known)}{_near(name, known)}"
            )
    names = [task.name for task in config.evaluate.tasks]
    for name in tasks:
        if name not in names:
            raise ConfigError(
                f"--task {name} is not in evaluate.tasks{_near(name, names)}",
                remedy=f"There are: {', '.join(names) or 'none'}.",
            )
    chosen = [task for task in config.evaluate.tasks if not tasks or task.name in tasks]
    text = not tasks if not metrics else any(name in LIKELIHOOD for name in metrics)
    if not metrics:
        return [(task, list(task.metrics)) for task in chosen], text
    wanted = [name for name in metrics if name in METRICS]
    declared = [(task, [name for name in wanted if name in task.metrics]) for task in chosen]
    nowhere = [name for name in wanted if not any(name in found for _, found in declared)]
    planned = [(task, found + nowhere) for task, found in declared if found or nowhere]
    return planned, text


def _near(name: str, names: list[str]) -> str:
    found = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {found[0]}?" if found else ""


def evaluate(
    subject: Subject,
    config: Config,
    paths: RunPaths,
    planned: list[tuple[TaskSection, list[str]]],
    *,
    text: bool,
    on_task: Callable[[str, float], None],
) -> Results:
    """Measure `subject`; `on_task` is told the task's name and its share done.

    A base model has not learnt to answer, and a masked one cannot, so their answers
    are not scored.

    Raises:
        DataError: if a task's rows cannot be used.
    """
    results = Results()
    if text:
        _measure_held_out(subject, config, paths, results, on_task)
    speaks = subject.model.config.causal and subject.stage != "pretrain"
    if planned and not speaks:
        why = (
            "the model is masked and cannot write answers"
            if not subject.model.config.causal
            else "this is a base model, which continues text and has not learnt to answer; "
            "run `chatgpt finetune` first"
        )
        results.notes.append(f"The tasks were not measured: {why}.")
        return results
    system = config.generate.system_prompt or config.finetune.system_prompt
    for task, metrics in planned:
        total = config.evaluate.max_rows or 0

        def progress(done: int, name: str = task.name, total: int = total) -> None:
            on_task(f"{name}: {done:,} answered", done / total if total else 0.0)

        result = run_task(
            task,
            metrics,
            config.evaluate,
            subject.model,
            subject.tokenizer,
            system_prompt=system,
            on_progress=progress,
        )
        if result.truncated:
            results.notes.append(
                f"{task.name}: {result.truncated} prompts are longer than the context and were cut."
            )
        results.tasks.append(result)
    return results


def _measure_held_out(
    subject: Subject,
    config: Config,
    paths: RunPaths,
    results: Results,
    on_task: Callable[[str, float], None],
) -> None:
    """The loss on what the model was trained for: text, or once finetuned, answers."""
    named = subject.stage == "model" and bool(config.finetune.data)
    answers = subject.stage == "finetune" or named
    name: HeldOutName = "held-out answers" if answers else "held-out text"
    on_task(name, 0.0)
    try:
        if answers:
            context = subject.model.config.context_length
            length = config.sequence_length(config.finetune, context)
            batches: Iterable[Batch] = held_out_conversations(
                config.finetune, subject.tokenizer, length
            )
        else:
            batches = held_out_batches(config, paths, subject.tokenizer, max_tokens=None)
        loss = evaluate_loss(
            subject.model, batches, subject.tokenizer.token_bytes, subject.hardware
        )
    except DataError as error:
        results.notes.append(f"No perplexity of {name}: {error.fact}.")
        return
    results.held_out = HeldOut(name, loss)


def write_results(folder: Path, subject: Subject, results: Results) -> dict[str, Any]:
    """Write results.json and predictions.jsonl; what results.json holds."""
    held_out = results.held_out
    content: dict[str, Any] = {
        "format": 1,
        "version": __version__,
        "model": str(subject.folder),
        "stage": subject.stage,
        "decoding": {"temperature": 0},
        "held_out": None
        if held_out is None
        else {
            "data": held_out.name,
            "perplexity": held_out.loss.perplexity,
            "bits_per_byte": held_out.loss.bits_per_byte,
            "nats_per_token": held_out.loss.nats_per_token,
            "token_accuracy": held_out.loss.accuracy,
            "tokens": held_out.loss.tokens,
        },
        "tasks": {result.task.name: result.summary() for result in results.tasks},
        "notes": results.notes,
    }
    write_json(folder / "results.json", content)
    lines = [
        json.dumps(row, ensure_ascii=False)
        for result in results.tasks
        for row in result.predictions
    ]
    write_text(folder / "predictions.jsonl", "".join(line + "\n" for line in lines))
    return content
