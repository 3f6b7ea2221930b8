"""Measuring a model: which tasks and metrics, and what is written of the results."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from chatgpt_cli.command_line import same_run
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config, TaskSection, TextSection, TrainingSection
from chatgpt_cli.data.batch import Batch
from chatgpt_cli.data.masking import MaskedHeldOut
from chatgpt_cli.data.sft import held_out_conversations
from chatgpt_cli.errors import ConfigError, DataError
from chatgpt_cli.evaluation.classification import (
    held_out_task,
    labelled_task,
    run_classification,
)
from chatgpt_cli.evaluation.contamination import (
    Overlap,
    overlap,
    training_tokens,
)
from chatgpt_cli.evaluation.held_out_text import HeldOutText, in_text_order
from chatgpt_cli.evaluation.metrics import LIKELIHOOD, METRICS
from chatgpt_cli.evaluation.metrics.perplexity import likelihood_scores
from chatgpt_cli.evaluation.metrics.score import Score
from chatgpt_cli.evaluation.metrics.translation import is_too_short_for_bleu
from chatgpt_cli.evaluation.task_rows import TaskRow, read_task
from chatgpt_cli.evaluation.tasks import Style, TaskResult, run_task, with_overlap
from chatgpt_cli.evaluation.texts import read_text, text_windows
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.distributed import rank, world_size
from chatgpt_cli.training.pretrain import held_out_batches, masking
from chatgpt_cli.training.validation import ValidationLoss, document_losses, mean_loss


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
    """The loss on data that training kept aside, or on a text of `evaluate.texts`.

    `documents` are the losses of each (see `document_losses`), from which the scores are,
    in the order of `in_text_order`; `text_sha256` tells the text from others.
    """

    name: str
    loss: ValidationLoss
    documents: np.ndarray
    text_sha256: str

    def scores(self) -> dict[str, Score]:
        """Perplexity, and bits per byte where targets stand for bytes; a row a document."""
        return likelihood_scores(self.documents)


@dataclass
class Results:
    """Everything that was measured. `notes` say what was not, and why."""

    tasks: list[TaskResult] = field(default_factory=list)
    held_out: HeldOut | None = None
    texts: list[HeldOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan(
    config: Config, *, metrics: list[str], tasks: list[str]
) -> tuple[list[tuple[TaskSection, list[str]]], bool]:
    """Which metrics of which tasks to compute, and whether held-out data is wanted.

    With no metric named, each task has its own and the loss is measured too. A metric
    that no chosen task declares is computed for all that it suits.

    Raises:
        ConfigError: for a metric or task that does not exist, naming the nearest, or a
            metric that suits no chosen task.
    """
    known = [*METRICS, "judge", *LIKELIHOOD]
    for name in metrics:
        if name not in known:
            raise ConfigError(
                f"--metric {name} is not a metric{_near(name, known)}",
                remedy=f"There are: {', '.join(known)}.",
            )
    names = [task.name for task in config.evaluate.tasks]
    names += [text.name for text in config.evaluate.texts]
    for name in tasks:
        if name not in names:
            raise ConfigError(
                f"--task {name} is not in evaluate.tasks or evaluate.texts{_near(name, names)}",
                remedy=f"There are: {', '.join(names) or 'none'}.",
            )
    chosen = [task for task in config.evaluate.tasks if not tasks or task.name in tasks]
    text = not tasks if not metrics else any(name in LIKELIHOOD for name in metrics)
    if not metrics:
        return [(task, list(task.metrics)) for task in chosen], text
    wanted = [name for name in metrics if name not in LIKELIHOOD]
    declared = [(task, [name for name in wanted if name in task.metrics]) for task in chosen]
    nowhere = [name for name in wanted if not any(name in found for _, found in declared)]
    if nowhere and not chosen:
        raise ConfigError(
            f"there is no task whose answers {nowhere[0]} could score",
            place="evaluate.tasks",
            remedy="Name rows to test with: name, data and metrics (docs/evaluation.md).",
        )
    for name in nowhere:
        if not any(task.suits(name) for task in chosen):
            raise ConfigError(
                f"--metric {name} suits none of the tasks",
                remedy="accuracy_normalized needs answer: choice; scores of classes need labels.",
            )
    planned = [
        (task, found + [name for name in nowhere if task.suits(name)]) for task, found in declared
    ]
    return [(task, found) for task, found in planned if found], text


def plan_texts(config: Config, *, metrics: list[str], tasks: list[str]) -> list[TextSection]:
    """Which of `evaluate.texts` to measure, given the same choice as `plan`."""
    if metrics and not any(name in LIKELIHOOD for name in metrics):
        return []
    return [text for text in config.evaluate.texts if not tasks or text.name in tasks]


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
    texts: Sequence[TextSection] = (),
    on_task: Callable[[str, float], None],
) -> Results:
    """Measure `subject`; `on_task` is told the task's name and its share done.

    A base model has not learnt to answer, and a masked one cannot, so their answers
    are not scored. Of several processes each answers some rows and all have the same
    results; the first one alone looks for contamination.

    Raises:
        DataError: if a task's rows cannot be used.
    """
    results = Results()
    if subject.model.config.labels:
        if texts:
            listed = ", ".join(one.name for one in texts)
            results.notes.append(f"Not measured ({listed}): a classifier does not predict text.")
        _classify(subject, config, planned, results, text, on_task)
        return results
    if text:
        _measure_held_out(subject, config, paths, results, on_task)
    for section in texts:
        on_task(section.name, 0.0)
        results.texts.append(_measure_text(subject, config, section))
    measured = []
    unfit: dict[str, list[str]] = {}
    for task, metrics in planned:
        style = _style(subject, task, config)
        if isinstance(style, _Unfit):
            unfit.setdefault(style.why, []).append(task.name)
        else:
            measured.append((task, metrics, style))
    for why, names in unfit.items():
        results.notes.append(f"Not measured ({', '.join(names)}): {why}.")
    system = config.generate.system_prompt or config.finetune.system_prompt
    asked = []
    for task, metrics, style in measured:
        rows = read_task(task, limit=config.evaluate.max_rows)
        result = run_task(
            task,
            rows,
            metrics,
            config.evaluate,
            subject.model,
            subject.tokenizer,
            style=style,
            system_prompt=system,
            on_progress=_progress(on_task, task.name, len(rows), "answered"),
        )
        if result.truncated:
            results.notes.append(
                f"{task.name}: {result.truncated} prompts are longer than the context and were cut."
            )
        bleu = result.scores.get("bleu")
        if bleu is not None and is_too_short_for_bleu(bleu):
            results.notes.append(
                f"{task.name}: BLEU counts runs of up to four tokens, and all references are "
                "shorter. Take chrf or exact_match."
            )
        results.tasks.append(result)
        asked.append(rows)
    if config.evaluate.contamination and asked and rank() == 0:
        on_task("contamination", 0.0)
        _look_for(asked, subject, config, paths, results)
    return results


def _progress(
    on_task: Callable[[str, float], None], name: str, total: int, what: str
) -> Callable[[int], None]:
    """Tells of all rows when this process has done so many of its own."""

    def told(done: int) -> None:
        done = min(done * world_size(), total)
        on_task(f"{name}: {done:,} of {total:,} {what}", done / total)

    return told


def _classify(
    subject: Subject,
    config: Config,
    planned: list[tuple[TaskSection, list[str]]],
    results: Results,
    text: bool,
    on_task: Callable[[str, float], None],
) -> None:
    """The tasks of a classifier; the rows that finetuning kept aside are one."""
    if text and config.finetune.data:
        held_out = held_out_task(subject.model.config.labels)
        planned = [(held_out, list(held_out.metrics)), *planned]
    for task, metrics in planned:
        rows = labelled_task(task, config, limit=config.evaluate.max_rows)
        result = run_classification(
            task,
            rows,
            metrics,
            subject.model,
            subject.tokenizer,
            batch_size=config.evaluate.batch_size,
            on_progress=_progress(on_task, task.name, len(rows), "labelled"),
        )
        if result.truncated:
            results.notes.append(
                f"{task.name}: {result.truncated} texts are longer than the context and were cut."
            )
        results.tasks.append(result)


def _look_for(
    asked: list[list[TaskRow]], subject: Subject, config: Config, paths: RunPaths, results: Results
) -> None:
    """Look for the rows of all tasks in the training data, in one pass."""
    training = training_tokens(config, paths, subject.tokenizer)
    found = overlap([row for rows in asked for row in rows], subject.tokenizer, training)
    if not found.searched_tokens:
        return
    seen = iter(found.seen)
    for index, rows in enumerate(asked):
        own = Overlap([next(seen) for _ in rows], found.searched_tokens)
        results.tasks[index] = with_overlap(results.tasks[index], own)


@dataclass(frozen=True)
class _Unfit:
    """Why a model cannot be given a task."""

    why: str


def _style(subject: Subject, task: TaskSection, config: Config) -> Style | _Unfit:
    """How a task is put to this model: a base model has not learnt to converse."""
    if not subject.model.config.causal:
        return _Unfit("the model is masked and cannot write answers")
    if task.style != "auto":
        return task.style
    continues = subject.stage == "finetune" and config.finetune.task == "language_modeling"
    if subject.stage != "pretrain" and not continues:
        return "chat"
    if task.answer == "choice":
        return "text"
    return _Unfit(
        "this is a base model, which continues text and has not learnt to answer; run "
        f"`chatgpt {same_run('finetune')}` first, or set the task's style to text"
    )


def _measure_held_out(
    subject: Subject,
    config: Config,
    paths: RunPaths,
    results: Results,
    on_task: Callable[[str, float], None],
) -> None:
    """The loss on what the model was trained for: text, or once finetuned, answers."""
    named = subject.stage == "model" and bool(config.finetune.data)
    answers = subject.stage not in ("pretrain", "model") or named
    name: HeldOutName = "held-out answers" if answers else "held-out text"
    on_task(name, 0.0)
    try:
        if answers:
            context = subject.model.config.context_length
            length = _window(config, config.finetune, context)
            batches: Iterable[Batch] = held_out_conversations(
                config.finetune, subject.tokenizer, length
            )
            if not subject.model.config.causal:
                batches = MaskedHeldOut(batches, masking(config, subject.tokenizer))
        else:
            batches = held_out_batches(config, paths, subject.tokenizer, max_tokens=None)
        text = HeldOutText(batches, subject.tokenizer, causal=subject.model.config.causal)
        documents = document_losses(
            subject.model, text, subject.tokenizer.token_bytes, subject.hardware
        )
        loss = mean_loss(documents)
    except DataError as error:
        results.notes.append(f"No perplexity of {name}: {error.fact}.")
        return
    documents, text_sha256 = in_text_order(documents, *text.hashes())
    results.held_out = HeldOut(name, loss, documents, text_sha256)


def _measure_text(subject: Subject, config: Config, section: TextSection) -> HeldOut:
    """The loss on a text of the user's, in windows as long as those of training."""
    tokenizer, shape = subject.tokenizer, subject.model.config
    text = read_text(section, config, tokenizer)
    length = _window(config, config.pretrain, shape.context_length)
    batches: Iterable[Batch] = text_windows(text, length)
    if not shape.causal:
        batches = MaskedHeldOut(batches, masking(config, tokenizer))
    documents = document_losses(subject.model, batches, tokenizer.token_bytes, subject.hardware)
    return HeldOut(section.name, mean_loss(documents), documents, text.sha256)


def _window(config: Config, section: TrainingSection, context_length: int) -> int:
    """Tokens read at once: as many as in training, if the model can."""
    if section.sequence_length is not None and section.sequence_length > context_length:
        return context_length
    return config.sequence_length(section, context_length)
