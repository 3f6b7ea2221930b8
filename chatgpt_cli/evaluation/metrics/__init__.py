"""The metrics of answers, by name.

A new metric is one small function from `Answers` to `Score`, a line here, and its name
in the schema's `Metric`.
"""

from __future__ import annotations

from collections.abc import Callable

from chatgpt_cli.evaluation.metrics.choice import accuracy_normalized
from chatgpt_cli.evaluation.metrics.classes import (
    calibration_error,
    f1,
    f1_micro,
    f1_weighted,
    precision,
    recall,
)
from chatgpt_cli.evaluation.metrics.matching import accuracy, exact_match, rouge_l
from chatgpt_cli.evaluation.metrics.score import Answers, Score
from chatgpt_cli.evaluation.metrics.translation import bleu, chrf, chrf_plus, ter
from chatgpt_cli.evaluation.metrics.variety import distinct_1, distinct_2, repetition

# What is measured on text, by its likelihood, and not on answers.
LIKELIHOOD = ("perplexity", "bits_per_byte")

METRICS: dict[str, Callable[[Answers], Score]] = {
    "accuracy": accuracy,
    "accuracy_normalized": accuracy_normalized,
    "f1": f1,
    "f1_micro": f1_micro,
    "f1_weighted": f1_weighted,
    "precision": precision,
    "recall": recall,
    "calibration_error": calibration_error,
    "exact_match": exact_match,
    "rouge_l": rouge_l,
    "bleu": bleu,
    "chrf": chrf,
    "chrf++": chrf_plus,
    "ter": ter,
    "distinct_1": distinct_1,
    "distinct_2": distinct_2,
    "repetition": repetition,
}
