"""What every metric reads and gives: answers in, a score that can be resampled out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from chatgpt_cli.config.schema import TaskSection
from chatgpt_cli.evaluation.answers import Language, language_of

Floats = np.ndarray


@dataclass(frozen=True)
class Answers:
    """What a model said to the rows of a task, and what would have been right.

    All lists are of one length, a row each. `references` holds at least one accepted
    answer a row.
    """

    task: TaskSection
    predictions: list[str]
    references: list[list[str]]
    # Where the task was answered by a model: the probability it gave to its answer.
    confidences: list[float] | None = None
    # Of multiple choice: the choices, and the log-likelihood (nats) of each.
    choices: list[list[str]] | None = None
    likelihoods: list[list[float]] | None = None

    def language(self) -> Language:
        """The language of the answers: the task's, or what most references are in."""
        if self.task.language != "auto":
            return self.task.language
        return language_of(text for accepted in self.references for text in accepted)

    def by_row(self) -> Iterator[tuple[str, list[str], Language]]:
        """Each prediction with its references and the language of these."""
        for prediction, accepted in zip(self.predictions, self.references, strict=True):
            fixed = self.task.language
            yield prediction, accepted, language_of(accepted) if fixed == "auto" else fixed


@dataclass(frozen=True)
class Score:
    """A metric's value over all rows, of each row, and of any resampling of the rows.

    The value is a function of sums over rows: `combine(statistics.sum(0))`. So the
    value of a bootstrap sample needs no text, only the rows' statistics.

    Attributes:
        rows: the score of each row by itself, for ranking answers.
        statistics: (rows, n) float64, what is summed.
        combine: sums (..., n) to values (...).
        signature: how the value was computed, where there is more than one way.
        details: more of it, as JSON values.
        better: whether larger or smaller values are better.
        digits: decimals worth showing: 3 for shares, 1 for points out of 100.
    """

    rows: list[float]
    statistics: Floats
    combine: Callable[[Floats], Floats]
    signature: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    better: Literal["higher", "lower"] = "higher"
    digits: int = 3

    @property
    def value(self) -> float:
        """The score over all rows; 0 where there are none."""
        return self.of(np.ones(len(self.rows)))

    def of(self, weights: Floats) -> float:
        """The score with each row counted `weights[row]` times, such as 0 or 1."""
        return float(self.combine(weights @ self.statistics))


def mean_score(rows: Sequence[float], **more: Any) -> Score:
    """A score that is the mean of its rows."""
    values = np.asarray(rows, dtype=np.float64)
    statistics = np.stack([values, np.ones_like(values)], axis=1)  # (rows, 2)
    return Score(list(rows), statistics, ratio, **more)


def ratio(sums: Floats) -> Floats:
    """The first sum over the second; 0 over 0 is 0."""
    return divide(sums[..., 0], sums[..., 1])


def divide(above: Floats, below: Floats) -> Floats:
    """Element by element, with 0 wherever the divisor is 0."""
    out = np.zeros(np.broadcast_shapes(above.shape, below.shape))
    np.divide(above, below, out=out, where=below != 0)
    return out
