"""Metrics of text by its likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from chatgpt_cli.evaluation.metrics.score import Floats, Score, divide


def likelihood_scores(documents: Floats) -> dict[str, Score]:
    """Perplexity, and bits per byte where the targets stand for bytes.

    Args:
        documents: (documents, 4) nats, targets, UTF-8 bytes of these and hits of each.
    """
    found = {"perplexity": _score(documents, perplexity, digits=2)}
    if documents[:, 2].any():
        found["bits_per_byte"] = _score(documents, bits_per_byte, digits=3)
    return found


def perplexity(sums: Floats) -> Floats:
    """exp of the mean loss: how many tokens it is as if the model chose from."""
    return np.asarray(np.exp(np.minimum(divide(sums[..., 0], sums[..., 1]), 700.0)))


def bits_per_byte(sums: Floats) -> Floats:
    """The loss in bits over the text's size: does not depend on the tokenizer."""
    return divide(sums[..., 0] / math.log(2), sums[..., 2])


def _score(documents: Floats, combine: Callable[[Floats], Floats], *, digits: int) -> Score:
    return Score(combine(documents).tolist(), documents, combine, better="lower", digits=digits)
