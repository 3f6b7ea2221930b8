"""Metrics of multiple choice, decided by the likelihood of each choice."""

from __future__ import annotations

import numpy as np

from chatgpt_cli.errors import DataError
from chatgpt_cli.evaluation.answers import label
from chatgpt_cli.evaluation.metrics.score import Answers, Score, mean_score


def accuracy_normalized(answers: Answers) -> Score:
    """Share of rows whose right choice has the highest log-likelihood per byte.

    Without the division a long choice is less likely than a short one only because it
    is long. `accuracy` is the share by log-likelihood itself.

    Raises:
        DataError: if the task's answers were written and not chosen.
    """
    if answers.choices is None or answers.likelihoods is None:
        raise DataError(
            "accuracy_normalized is for multiple choice, and this task's answers are written",
            place=f"evaluate.tasks: {answers.task.name}",
            remedy="Set `choices` (or `answer: choice` with `labels`) in the task.",
        )
    rows = []
    for choices, scores, accepted in zip(
        answers.choices, answers.likelihoods, answers.references, strict=True
    ):
        best = int(
            np.argmax([s / max(1, len(c.encode())) for c, s in zip(choices, scores, strict=True)])
        )
        rows.append(float(label(choices[best]) in map(label, accepted)))
    return mean_score(rows)
