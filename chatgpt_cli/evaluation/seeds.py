"""Do two groups of runs differ by more than their seeds make: Welch's t-test over seeds.

Source: B. L. Welch, "The generalization of 'Student's' problem when several different
population variances are involved", Biometrika 34 (1947); recommended for few seeds by Colas,
Sigaud and Oudeyer, "A Hitchhiker's Guide to Statistical Comparisons of Reinforcement
Learning Algorithms" (2019), arXiv 1904.06979.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

_TAIL = 0.025


@dataclass(frozen=True)
class Spread:
    """A score of the runs of a group."""

    mean: float
    lowest: float
    highest: float
    seeds: int


@dataclass(frozen=True)
class SeedDifference:
    """The second group's mean minus the first one's, with its 95% interval.

    `p` is the probability of a difference at least as large if both groups had one mean.
    All but the value are None where the seeds cannot tell: fewer than two in a group, or
    no spread in either.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


def spread(values: Sequence[float]) -> Spread:
    """The mean and range of a score."""
    return Spread(fmean(values), min(values), max(values), len(values))


def welch(first: Sequence[float], second: Sequence[float]) -> SeedDifference:
    """Compare the means of two groups, a value for each seed, of unequal variances."""
    value = fmean(second) - fmean(first)
    if min(len(first), len(second)) < 2:
        return SeedDifference(value)
    one, other = variance(first) / len(first), variance(second) / len(second)
    error = math.sqrt(one + other)
    if error == 0:
        return SeedDifference(value)
    # Welch and Satterthwaite's degrees of freedom.
    freedom = (one + other) ** 2 / (one**2 / (len(first) - 1) + other**2 / (len(second) - 1))
    reach = t_quantile(_TAIL, freedom) * error
    p = min(1.0, 2 * t_tail(abs(value) / error, freedom))
    return SeedDifference(value, value - reach, value + reach, p)


def t_tail(t: float, freedom: float) -> float:
    """The probability that Student's t exceeds `t`, which is not negative."""
    return 0.5 * _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def t_quantile(tail: float, freedom: float) -> float:
    """The t that is exceeded with this probability (less than a half), by bisection."""
    low, high = 0.0, 1.0
    while t_tail(high, freedom) > tail:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, freedom) > tail else (low, middle)
    return high


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function (DLMF 8.17; the fraction is 8.17.22)."""
    if x in (0.0, 1.0):
        return x
    # The fraction converges fast below this x; above it the symmetry is used.
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(scale + a * math.log(x) + b * math.log1p(-x)) / a
    # The fraction from its end.
    value = 0.0
    for m in range(200, 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        value = odd / (1 + even / (1 + value))
    return front / (1 + value)
