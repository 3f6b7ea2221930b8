"""Measuring a classifier: it names a label of each row, with a probability."""

from __future__ import annotations

import time
from collections.abc import Callable

from chatgpt_cli.config.schema import Config, TaskSection
from chatgpt_cli.data.formats.classification import LabelledRow
from chatgpt_cli.data.labelled import labelled_rows
from chatgpt_cli.data.rows import read_labelled
from chatgpt_cli.errors import DataError
from chatgpt_cli.evaluation.metrics import METRICS
from chatgpt_cli.evaluation.metrics.score import Answers
from chatgpt_cli.evaluation.statistics import intervals
from chatgpt_cli.evaluation.task_rows import TaskRow
from chatgpt_cli.evaluation.tasks import TaskResult, predictions_of
from chatgpt_cli.generation.classify import classify
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.chat import Message
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.distributed import dealt

HELD_OUT = "held-out rows"


def held_out_task(labels: tuple[str, ...]) -> TaskSection:
    """The rows that finetuning validates with, as a task."""
    return TaskSection(
        name=HELD_OUT,
        data="finetune.data",
        metrics=["accuracy", "f1", "calibration_error"],
        labels=list(labels),
    )


def labelled_task(task: TaskSection, config: Config, *, limit: int | None) -> list[LabelledRow]:
    """The rows of a task for a classifier.

    Raises:
        DataError: if there are none, or one cannot be used.
    """
    if task.name == HELD_OUT:
        rows = labelled_rows(config.finetune)[1]
    else:
        rows = read_labelled([task.data], on_error="stop", setting=None).rows
    if not rows:
        raise DataError("there are no labelled rows in it", place=task.data)
    return rows if limit is None else rows[:limit]


def run_classification(
    task: TaskSection,
    rows: list[LabelledRow],
    metrics: list[str],
    model: Transformer,
    tokenizer: Tokenizer,
    *,
    batch_size: int,
    on_progress: Callable[[int], None],
) -> TaskResult:
    """Label every row, and score the labels.

    Raises:
        DataError: if a row's label is none of the task's, or a metric does not suit labels.
    """
    started = time.perf_counter()
    task = task.model_copy(update={"labels": task.labels or list(model.config.labels)})
    found = dealt(
        [row.texts for row in rows],
        lambda texts: classify(
            model, tokenizer, texts, batch_size=batch_size, on_progress=on_progress
        ),
    )
    answers = Answers(
        task,
        [one.label for one in found],
        [[row.label] for row in rows],
        confidences=[one.probability for one in found],
    )
    asked = [
        TaskRow((Message("user", "\n".join(row.texts)),), [row.label], row.place) for row in rows
    ]
    scores = {name: METRICS[name](answers) for name in metrics if name != "judge"}
    return TaskResult(
        task,
        scores,
        intervals(scores),
        predictions_of(asked, answers, scores),
        time.perf_counter() - started,
        sum(one.cut for one in found),
    )
