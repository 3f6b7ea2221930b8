"""Metrics of whole corpora by sacrebleu (Post 2018): BLEU, chrF, chrF++, TER.

sacrebleu counts; the step from summed counts to a score is written for many sums at
one time, so that a thousand bootstrap samples cost no more than one score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from chatgpt_cli.evaluation.metrics.score import Answers, Floats, Score, divide

_ORDERS = 4


def bleu(answers: Answers) -> Score:
    """Corpus BLEU, 0 to 100, with the tokenizer of the answers' language."""
    tokenizer = "zh" if answers.language() == "zh" else "13a"
    score = _score(BLEU(tokenize=tokenizer), answers, _bleu)
    sums = score.statistics.sum(0)
    details = {
        "brevity_penalty": float(_brevity(sums)),
        "precisions": _precisions(sums).tolist(),
    }
    rows = _bleu(score.statistics, effective_order=True).tolist()
    return replace(score, rows=rows, details=details)


def is_too_short_for_bleu(score: Score) -> bool:
    """Whether no reference has four tokens: then BLEU is 0 also where all answers are right."""
    return bool((score.statistics[:, 1] < _ORDERS).all())


def chrf(answers: Answers) -> Score:
    """Corpus chrF2, 0 to 100 (Popović 2015): n-grams of characters."""
    return _score(CHRF(), answers, _f_scores)


def chrf_plus(answers: Answers) -> Score:
    """Corpus chrF2++, 0 to 100 (Popović 2017): n-grams of characters and of words."""
    return _score(CHRF(word_order=2), answers, _f_scores)


def ter(answers: Answers) -> Score:
    """Translation edit rate, in edits per 100 words of the reference (Snover et al. 2006).

    Chinese is split into characters first, as sacrebleu's asian_support does.
    """
    chinese = answers.language() == "zh"
    metric = TER(normalized=chinese, asian_support=chinese)
    return replace(_score(metric, answers, _ter), better="lower")


def _score(metric: Any, answers: Answers, combine: Callable[[Floats], Floats]) -> Score:
    """A metric of sacrebleu, whose sums over rows `combine` turns into a score."""
    counts = _counts(metric, answers)
    signature = str(metric.get_signature())
    return Score(combine(counts).tolist(), counts, combine, signature=signature, digits=1)


def _counts(metric: Any, answers: Answers) -> Floats:
    """(rows, n): what the metric counts in each row, as its own significance tests do."""
    most = max(len(accepted) for accepted in answers.references)
    # Stream k holds every row's k-th reference, or None where there are fewer.
    streams = [
        [accepted[k] if k < len(accepted) else None for accepted in answers.references]
        for k in range(most)
    ]
    counted = metric._extract_corpus_statistics(answers.predictions, streams)
    return np.array(counted, dtype=np.float64)


def _brevity(sums: Floats) -> Floats:
    said, wanted = sums[..., 0], sums[..., 1]
    penalty = np.exp(np.minimum(0.0, 1 - divide(wanted, said)))
    return np.where(said > 0, penalty, np.where(wanted > 0, 0.0, 1.0))


def _precisions(sums: Floats) -> Floats:
    """(..., 4) n-gram precisions in percent; the k-th that is zero is smoothed to 1 / 2^k."""
    hits, totals = sums[..., 2 : 2 + _ORDERS], sums[..., 2 + _ORDERS :]
    none = hits == 0
    smoothed = np.where(none, 0.5 ** none.cumsum(-1), hits)
    # Without any match there is nothing to smooth.
    return np.where(none.all(-1, keepdims=True), 0.0, 100 * divide(smoothed, totals))


def _bleu(sums: Floats, *, effective_order: bool = False) -> Floats:
    """BLEU of sums; with `effective_order` only of the orders that the answer has."""
    precisions = _precisions(sums)
    with np.errstate(divide="ignore"):
        logs = np.log(precisions)
    if effective_order:
        there = sums[..., 2 + _ORDERS :] > 0
        mean = divide(np.where(there, logs, 0.0).sum(-1), there.sum(-1))
        mean = np.where(precisions.any(-1), mean, -np.inf)
    else:
        mean = logs.mean(-1)
    return np.asarray(_brevity(sums) * np.exp(mean))


def _f_scores(sums: Floats) -> Floats:
    """chrF of sums: the F2 of mean precision and recall over the orders that both sides have."""
    parts = sums.reshape(*sums.shape[:-1], -1, 3)
    said, wanted, same = parts[..., 0], parts[..., 1], parts[..., 2]
    both = (said > 0) & (wanted > 0)
    orders = both.sum(-1)
    precision = divide((divide(same, said) * both).sum(-1), orders)
    recall = divide((divide(same, wanted) * both).sum(-1), orders)
    return 100 * divide(5 * precision * recall, 4 * precision + recall)


def _ter(sums: Floats) -> Floats:
    edits, length = sums[..., 0], sums[..., 1]
    return np.asarray(100 * np.where(length > 0, divide(edits, length), edits > 0))
