"""Metrics that need no reference: does the model say different things, or one over and over."""

from __future__ import annotations

from collections import Counter

import numpy as np

from chatgpt_cli.evaluation.answers import rouge_words
from chatgpt_cli.evaluation.metrics.score import Answers, Score, mean_score, ratio


def distinct_1(answers: Answers) -> Score:
    """Different words over all words of all answers (Li et al. 2016); characters in Chinese."""
    return _distinct(answers, 1)


def distinct_2(answers: Answers) -> Score:
    """Different pairs of words over all pairs, of all answers."""
    return _distinct(answers, 2)


def repetition(answers: Answers) -> Score:
    """Mean share of an answer's 4-grams that it has said before (Welleck et al. 2020)."""
    rows = []
    for text in answers.predictions:
        grams = _grams(rouge_words(text), 4)
        rows.append(1 - len(set(grams)) / len(grams) if grams else 0.0)
    return mean_score(rows, better="lower")


def _distinct(answers: Answers, size: int) -> Score:
    """An n-gram that k answers have is credited to each of them as 1/k: the sum is exact."""
    rows = [_grams(rouge_words(text), size) for text in answers.predictions]
    spread = Counter(gram for grams in rows for gram in set(grams))
    credit = [sum(1 / spread[gram] for gram in set(grams)) for grams in rows]
    statistics = np.array([[own, len(grams)] for own, grams in zip(credit, rows, strict=True)])
    return Score(ratio(statistics).tolist(), statistics, ratio)


def _grams(words: list[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[start:] for start in range(size)), strict=False))
