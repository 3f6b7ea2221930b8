"""Checkpoints ranked by a score of what the model answers, and not by the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.config.schema import Config, EvaluateSection, TaskSection
from chatgpt_cli.data.batch import Batch
from chatgpt_cli.data.formats.classification import LabelledRow
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.evaluation.classification import labelled_task, run_classification
from chatgpt_cli.evaluation.metrics.score import Score
from chatgpt_cli.evaluation.task_rows import TaskRow, read_task
from chatgpt_cli.evaluation.tasks import Style, run_task
from chatgpt_cli.model.transformer import Transformer, inference
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.objective import Loss, Objective
from chatgpt_cli.training.validation import ValidationLoss


@dataclass(frozen=True)
class ScoredObjective:
    """Another objective whose validation answers the rows of a task besides."""

    inner: Objective
    # Task and metric, as shown.
    name: str
    score: Callable[[Transformer], Score]

    def passes(self, model: Transformer, batch: Batch, step: int) -> Iterator[Batch]:
        """As the other one's."""
        return self.inner.passes(model, batch, step)

    def count(self, batch: Batch) -> int:
        """As the other one's."""
        return self.inner.count(batch)

    def __call__(self, model: Transformer, batch: Batch) -> Loss:
        """As the other one's."""
        return self.inner(model, batch)

    def validate(self, model: Transformer, batches: Iterable[Batch]) -> ValidationLoss:
        """The loss, ranked by the score."""
        loss = self.inner.validate(model, batches)
        with inference(model):
            score = self.score(model)
        value = score.value
        rank = -value if score.better == "higher" else value
        return replace(loss, rank=rank, details={**loss.details, self.name: value})


def scored(
    objective: Objective, config: Config, tokenizer: Tokenizer, shape: ModelConfig, style: Style
) -> Objective:
    """The objective, or the same ranked as `finetune.best_by` says.

    Args:
        objective: what is trained.
        config: names the task, whose rows are read now.
        tokenizer: the model's.
        shape: what kind of model it is.
        style: whether rows are asked as turns of a chat.

    Raises:
        ConfigError: if the configuration has no such task, or the model does not answer.
        DataError: if its rows cannot be used.
    """
    by = config.finetune.best_by
    if by is None:
        return objective
    task = next((one for one in config.evaluate.tasks if one.name == by.task), None)
    if task is None:
        known = ", ".join(one.name for one in config.evaluate.tasks) or "none"
        raise ConfigError(
            f"there is no task {by.task} in evaluate.tasks (there: {known})",
            place="finetune.best_by.task",
            remedy="Describe it there: a name, a file of rows that are not trained on, metrics.",
        )
    score: Callable[[Transformer], Score]
    if shape.labels:
        labelled = labelled_task(task, config, limit=by.rows)
        score = partial(_labelled, task, labelled, by.metric, config.evaluate, tokenizer)
    elif not shape.causal:
        raise ConfigError(
            "a masked model writes no answers to be scored",
            place="finetune.best_by",
            remedy="Remove it: the loss decides then.",
        )
    else:
        asked = read_task(task, limit=by.rows)
        system = config.finetune.system_prompt
        score = partial(
            _answered, task, asked, by.metric, config.evaluate, tokenizer, style, system
        )
    return ScoredObjective(objective, f"{by.task} {by.metric}", score)


def _answered(
    task: TaskSection,
    rows: list[TaskRow],
    metric: str,
    section: EvaluateSection,
    tokenizer: Tokenizer,
    style: Style,
    system_prompt: str | None,
    model: Transformer,
) -> Score:
    result = run_task(
        task, rows, [metric], section, model, tokenizer, style=style, system_prompt=system_prompt
    )
    return result.scores[metric]


def _labelled(
    task: TaskSection,
    rows: list[LabelledRow],
    metric: str,
    section: EvaluateSection,
    tokenizer: Tokenizer,
    model: Transformer,
) -> Score:
    result = run_classification(
        task, rows, [metric], model, tokenizer,
        batch_size=section.batch_size, on_progress=lambda _: None,
    )  # fmt: skip
    return result.scores[metric]
