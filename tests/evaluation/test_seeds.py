"""Welch's t-test over seeds, beside scipy's."""

import pytest
from scipy import stats  # type: ignore[import-untyped]

from chatgpt_cli.evaluation.seeds import spread, t_quantile, t_tail, welch


@pytest.mark.parametrize("freedom", [1.0, 1.3, 2.0, 4.0, 7.7, 100.0])
def test_students_distribution(freedom: float) -> None:
    for t in (0.0, 0.1, 1.0, 2.776, 12.7, 300.0):
        assert t_tail(t, freedom) == pytest.approx(stats.t.sf(t, freedom), abs=1e-12)
    for tail in (0.025, 0.005):
        assert t_quantile(tail, freedom) == pytest.approx(stats.t.isf(tail, freedom))


@pytest.mark.parametrize(
    ("first", "second"),
    [([1.0, 2.0], [3.0, 5.0]), ([0.5, 0.52, 0.6], [0.4, 0.41]), ([1.0, 2.0, 3.0], [2.0, 2.1])],
)
def test_difference_of_means(first: list[float], second: list[float]) -> None:
    found = welch(first, second)
    expected = stats.ttest_ind(second, first, equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(("first", "second"), [([1.0], [2.0, 3.0]), ([1.0, 1.0], [2.0, 2.0])])
def test_too_little_to_test(first: list[float], second: list[float]) -> None:
    found = welch(first, second)
    assert found.value > 0 and found.p is found.low is found.high is None


def test_spread() -> None:
    found = spread([3.0, 1.0, 2.0])
    assert (found.mean, found.lowest, found.highest, found.seeds) == (2.0, 1.0, 3.0, 3)
