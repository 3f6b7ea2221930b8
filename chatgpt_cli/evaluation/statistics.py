"""How sure a score is, and whether two scores differ: by resampling the rows.

Every score is a function of sums over rows (see `Score`), so all bootstrap samples
are one matrix product: (samples, rows) weights times (rows, n) statistics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from chatgpt_cli.evaluation.metrics.score import Floats, Score

_SAMPLES = 2000
_TRIALS = 10_000
_TAIL = 0.025
# Weights made at one time: 64 MB.
_CHUNK = 8_000_000


@dataclass(frozen=True)
class Interval:
    """Where the score of the whole population lies, in 95 of 100 such test sets."""

    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Difference:
    """The second score minus the first, on the same rows.

    `p` is the probability of a difference at least as large if it made no difference
    which of the two models gave which answer (approximate randomisation).
    """

    value: float
    low: float
    high: float
    p: float


def intervals(scores: Mapping[str, Score], *, seed: int = 0) -> dict[str, Interval | None]:
    """A 95% interval for each score of the same rows; None where one row cannot tell it.

    Shares of rows that are right or wrong get Wilson's interval (1927), which holds
    where a bootstrap cannot: of 50 right answers out of 50 all samples are equal. All
    others get the bias-corrected and accelerated bootstrap (Efron 1987).
    """
    found: dict[str, Interval | None] = {
        name: wilson(score) if is_share(score) else None
        for name, score in scores.items()
        if is_share(score) or len(score.rows) < 2
    }
    others = {name: score for name, score in scores.items() if name not in found}
    if others:
        samples = _bootstrap(list(others.values()), seed)
        for (name, score), values in zip(others.items(), samples, strict=True):
            low, high = _bca(score.value, values, _left_out(score))
            found[name] = Interval(low, high, "bootstrap")
    return {name: found[name] for name in scores}


def is_share(score: Score) -> bool:
    """Whether a score is the mean of rows that are each 0 or 1."""
    statistics = score.statistics
    return (
        statistics.shape[1] == 2
        and bool(((statistics[:, 0] == 0) | (statistics[:, 0] == 1)).all())
        and bool((statistics[:, 1] == 1).all())
    )


def wilson(score: Score) -> Interval:
    """Wilson's interval of a share."""
    size = len(score.rows)
    if not size:
        return Interval(0.0, 1.0, "wilson")
    z = NormalDist().inv_cdf(1 - _TAIL)
    share = score.value
    middle = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = (
        z * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size)) / (1 + z * z / size)
    )
    return Interval(max(0.0, middle - half), min(1.0, middle + half), "wilson")


def difference(first: Score, second: Score, *, seed: int = 0) -> Difference:
    """How much better or worse the second is on the same rows, and how surely.

    The interval is of a paired bootstrap; `p` of approximate randomisation with 10,000
    trials (Riezler and Maxwell 2005), as sacrebleu's paired test computes it.
    """
    value = second.value - first.value
    one, other = _bootstrap([first, second], seed)
    left_out = _left_out(second) - _left_out(first)
    low, high = _bca(value, other - one, left_out)
    return Difference(value, low, high, _randomisation(first, second, seed))


def holm(values: Sequence[float]) -> list[float]:
    """Each p-value corrected for being one of several (Holm 1979), in the order given."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    corrected = [0.0] * len(values)
    reached = 0.0
    for rank, index in enumerate(order):
        reached = max(reached, min(1.0, values[index] * (len(values) - rank)))
        corrected[index] = reached
    return corrected


def _bootstrap(scores: Sequence[Score], seed: int) -> list[Floats]:
    """The value of each score in each sample; the samples are the same for all."""
    size = len(scores[0].rows)
    values: list[list[Floats]] = [[] for _ in scores]
    for weights in _weights(size, seed):
        for kept, score in zip(values, scores, strict=True):
            kept.append(score.combine(weights @ score.statistics))
    return [np.concatenate(kept) for kept in values]


def _weights(size: int, seed: int) -> Iterator[Floats]:
    """How often each row is drawn in each sample, (samples, rows), some samples at a time."""
    random = np.random.default_rng(seed)
    chunk = max(1, min(_SAMPLES, _CHUNK // max(1, size)))
    for start in range(0, _SAMPLES, chunk):
        samples = min(chunk, _SAMPLES - start)
        drawn = random.integers(size, size=(samples, size))
        drawn += np.arange(samples)[:, None] * size
        counts = np.bincount(drawn.ravel(), minlength=samples * size)
        yield counts.reshape(samples, size).astype(np.float64)


def _left_out(score: Score) -> Floats:
    """The score without each row in turn."""
    return score.combine(score.statistics.sum(0) - score.statistics)


def _bca(value: float, samples: Floats, left_out: Floats) -> tuple[float, float]:
    """The bias-corrected and accelerated interval of bootstrap samples."""
    if samples.min() == samples.max():
        return float(samples[0]), float(samples[0])
    normal = NormalDist()
    below = (samples < value).mean() + 0.5 * (samples == value).mean()
    bias = normal.inv_cdf(min(max(float(below), 1 / len(samples)), 1 - 1 / len(samples)))
    distance = left_out.mean() - left_out
    spread = float((distance**2).sum())
    skew = float((distance**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    shares = []
    for tail in (_TAIL, 1 - _TAIL):
        z = bias + normal.inv_cdf(tail)
        shares.append(normal.cdf(bias + z / (1 - skew * z)))
    low, high = np.quantile(samples, shares)
    return float(low), float(high)


def _randomisation(first: Score, second: Score, seed: int) -> float:
    """The share of trials, answers swapped at random, with a difference as large."""
    size = len(first.rows)
    observed = abs(second.value - first.value)
    random = np.random.default_rng(seed)
    both = first.statistics + second.statistics
    total = both.sum(0)
    chunk = max(1, min(_TRIALS, _CHUNK // max(1, size)))
    larger = 0
    for start in range(0, _TRIALS, chunk):
        trials = min(chunk, _TRIALS - start)
        kept = random.integers(2, size=(trials, size)).astype(np.float64)
        # Of the rows kept the first model's statistics, of the others the second's.
        mixed = second.statistics.sum(0) + kept @ (first.statistics - second.statistics)
        gaps = np.abs(first.combine(mixed) - second.combine(total - mixed))
        larger += int((gaps >= observed - 1e-12).sum())
    return (larger + 1) / (_TRIALS + 1)
