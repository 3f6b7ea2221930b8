"""Metrics of classification: F1 of classes, and whether confidence can be believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chatgpt_cli.errors import DataError
from chatgpt_cli.evaluation.answers import label
from chatgpt_cli.evaluation.metrics.matching import accuracy, token_f1
from chatgpt_cli.evaluation.metrics.score import Answers, Floats, Score, divide

_BINS = 15


def f1(answers: Answers) -> Score:
    """F1 of classes (macro) for a task with labels, of words otherwise."""
    return token_f1(answers) if answers.task.labels is None else _of_classes(answers, macro_f1)


def f1_micro(answers: Answers) -> Score:
    """F1 of all classes counted together; equal to accuracy if every answer is a label."""
    return _of_classes(answers, micro_f1)


def f1_weighted(answers: Answers) -> Score:
    """F1 of classes, each weighted by how often it is right."""
    return _of_classes(answers, weighted_f1)


def precision(answers: Answers) -> Score:
    """Of the answers that name a class, the share that is right; mean over classes."""
    return _of_classes(answers, macro_precision)


def recall(answers: Answers) -> Score:
    """Of the rows of a class, the share that was found; mean over classes."""
    return _of_classes(answers, macro_recall)


def calibration_error(answers: Answers) -> Score:
    """Expected calibration error (Guo et al. 2017): 0 where confidence equals accuracy.

    Answers are grouped by the model's own probability of them into 15 bins of equal
    width; the value is the mean gap between probability and accuracy in a bin.

    Raises:
        DataError: if the answers come without probabilities.
    """
    if answers.confidences is None:
        raise DataError(
            "calibration_error needs the model's probabilities, and these answers have none",
            place=f"evaluate.tasks: {answers.task.name}",
        )
    right = np.array(accuracy(answers).rows)
    sure = np.array(answers.confidences, dtype=np.float64)
    # Bins are open below and closed above, as in the paper: 1 belongs to the last.
    bins = np.clip(np.ceil(sure * _BINS).astype(int) - 1, 0, _BINS - 1)
    statistics = np.zeros((len(sure), _BINS, 3))
    statistics[np.arange(len(sure)), bins] = np.stack([np.ones_like(sure), sure, right], 1)
    sums = statistics.sum(0)  # (bins, 3)
    curve = [
        {"rows": int(n), "confidence": confidence / n, "accuracy": correct / n}
        for n, confidence, correct in sums.tolist()
        if n
    ]
    rows = np.abs(sure - right).tolist()
    return Score(
        rows,
        statistics.reshape(len(sure), -1),
        _gap,
        details={"bins": curve},
        better="lower",
    )


def _gap(sums: Floats) -> Floats:
    bins = sums.reshape(*sums.shape[:-1], _BINS, 3)
    gaps = np.abs(bins[..., 1] - bins[..., 2]).sum(-1)
    return divide(gaps, bins[..., 0].sum(-1))


def _of_classes(answers: Answers, combine: Callable[[Floats], Floats]) -> Score:
    """A score of hits, answers and occurrences of each class, with the confusion matrix.

    An answer that is no label is a miss of the true class and a hit of none. Where
    a row has several references, the one that was answered counts, else the first.

    Raises:
        DataError: if the task has no labels, or a reference is none of them.
    """
    labels = answers.task.labels
    if labels is None:
        raise DataError(
            "scores of classes need the task's labels",
            place=f"evaluate.tasks: {answers.task.name}",
            remedy="Name them, as in `labels: [positive, negative]`.",
        )
    keys = {label(name): index for index, name in enumerate(labels)}
    other = len(labels)
    said = np.array([keys.get(label(text), other) for text in answers.predictions], dtype=int)
    truth = np.array([_true_class(answers, row, keys) for row in range(len(said))], dtype=int)
    counts = np.zeros((other, other + 1), dtype=int)
    np.add.at(counts, (truth, said), 1)
    everyone = np.arange(other)
    answered = said[:, None] == everyone  # (rows, classes)
    occurs = truth[:, None] == everyone
    statistics = np.stack([answered & occurs, answered, occurs], -1).astype(np.float64)
    sums = statistics.reshape(len(said), -1).sum(0)
    return Score(
        [float(row) for row in said == truth],
        statistics.reshape(len(said), -1),
        combine,
        details=_details(labels, counts, sums),
    )


def _true_class(answers: Answers, row: int, keys: dict[str, int]) -> int:
    accepted = [label(one) for one in answers.references[row]]
    said = label(answers.predictions[row])
    right = said if said in accepted else accepted[0]
    if right not in keys:
        raise DataError(
            f"the reference {answers.references[row][0]!r} is not among the labels "
            f"({', '.join(answers.task.labels or [])})",
            place=f"evaluate.tasks: {answers.task.name}",
        )
    return keys[right]


def _details(labels: list[str], counts: np.ndarray, sums: Floats) -> dict[str, Any]:
    hits, answered, support = _parts(sums)
    each = zip(
        divide(hits, answered).tolist(),
        divide(hits, support).tolist(),
        divide(2 * hits, answered + support).tolist(),
        support.astype(int).tolist(),
        strict=True,
    )
    names = ("precision", "recall", "f1", "support")
    return {
        "macro": float(macro_f1(sums)),
        "micro": float(micro_f1(sums)),
        "weighted": float(weighted_f1(sums)),
        "classes": {
            name: dict(zip(names, one, strict=True)) for name, one in zip(labels, each, strict=True)
        },
        "confusion": {"labels": list(labels), "counts": counts.tolist()},
        "invalid": int(counts[:, -1].sum()),
    }


def _parts(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Hits, answers and occurrences of each class, (..., classes)."""
    parts = sums.reshape(*sums.shape[:-1], -1, 3)
    return parts[..., 0], parts[..., 1], parts[..., 2]


def _mean_of_present(values: Floats, answered: Floats, support: Floats) -> Floats:
    """Mean over the classes that occur, in truth or in answers."""
    present = (answered > 0) | (support > 0)
    return divide((values * present).sum(-1), present.sum(-1))


def macro_f1(sums: Floats) -> Floats:
    """Mean over the classes of F1, 2 hits / (answers + truths)."""
    hits, answered, support = _parts(sums)
    return _mean_of_present(divide(2 * hits, answered + support), answered, support)


def macro_precision(sums: Floats) -> Floats:
    """Mean over the classes of hits / answers."""
    hits, answered, support = _parts(sums)
    return _mean_of_present(divide(hits, answered), answered, support)


def macro_recall(sums: Floats) -> Floats:
    """Mean over the classes of hits / truths."""
    hits, answered, support = _parts(sums)
    return _mean_of_present(divide(hits, support), answered, support)


def micro_f1(sums: Floats) -> Floats:
    """F1 of all classes' counts together."""
    hits, answered, support = _parts(sums)
    return divide(2 * hits.sum(-1), answered.sum(-1) + support.sum(-1))


def weighted_f1(sums: Floats) -> Floats:
    """Mean over the classes of F1, each as often as it is the truth."""
    hits, answered, support = _parts(sums)
    values = divide(2 * hits, answered + support)
    return divide((values * support).sum(-1), support.sum(-1))
