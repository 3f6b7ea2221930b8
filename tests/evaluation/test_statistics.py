"""Intervals that cover what they promise, and tests that tell a difference from chance."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import sacrebleu
from sacrebleu.significance import PairedTest

from chatgpt_cli.config.schema import TaskSection
from chatgpt_cli.evaluation.metrics import METRICS
from chatgpt_cli.evaluation.metrics.score import Answers, Score, mean_score, ratio
from chatgpt_cli.evaluation.report.scores import score_table
from chatgpt_cli.evaluation.statistics import difference, holm, intervals, wilson

_ROWS = 150
_SETS = 1000


def _skewed(random: np.random.Generator) -> tuple[Callable[[], Score], float]:
    """Means of marks between 0 and 1, most of them near an end."""
    return lambda: mean_score(random.beta(0.5, 0.3, _ROWS)), 0.5 / 0.8


def _ratio_of_sums(random: np.random.Generator) -> tuple[Callable[[], Score], float]:
    """As in corpus metrics: long rows count more, 40% of all words are right."""

    def draw() -> Score:
        lengths = random.integers(3, 20, _ROWS)
        hits = random.binomial(lengths, 0.4)
        statistics = np.stack([hits, lengths], 1).astype(np.float64)
        return Score((hits / lengths).tolist(), statistics, ratio)

    return draw, 0.4


def _corpus_bleu(random: np.random.Generator) -> tuple[Callable[[], Score], float]:
    """Test sets drawn from 3,000 sentences, some rendered better than others."""
    words = np.array([f"w{index}" for index in range(300)])
    likely = 1 / np.arange(1, 301)
    references, predictions = [], []
    for _ in range(3000):
        said = random.choice(words, random.integers(5, 25), p=likely / likely.sum())
        kept = random.random(len(said)) < random.beta(8, 3)
        wrong = np.where(random.random(len(said)) < 0.5, random.choice(words, len(said)), "")
        references.append([" ".join(said)])
        predictions.append(" ".join(filter(None, np.where(kept, said, wrong))))
    task = TaskSection(name="t", data="d", metrics=["bleu"], language="en")
    every = METRICS["bleu"](Answers(task, predictions, references))
    rows = np.array(every.rows)

    def draw() -> Score:
        chosen = random.integers(len(rows), size=_ROWS)
        return Score(rows[chosen].tolist(), every.statistics[chosen], every.combine)

    return draw, every.value


@pytest.mark.parametrize("population", [_skewed, _ratio_of_sums, _corpus_bleu])
def test_95_of_100_intervals_hold_the_truth(
    population: Callable[[np.random.Generator], tuple[Callable[[], Score], float]],
) -> None:
    """1,000 test sets: the share is known to 0.7 percent, so that luck does not help.

    The control: intervals of 90%, which are narrower, do not pass.
    """
    random = np.random.default_rng(7)
    draw, truth = population(random)
    held = narrow = 0
    for seed in range(_SETS // 100):
        # A hundred test sets share their bootstrap's draws, which takes most of the time.
        scores = {str(number): draw() for number in range(100)}
        for name, found in intervals(scores, seed=seed).items():
            assert found is not None
            value = scores[name].value
            held += found.low <= truth <= found.high
            low, high = (value + (end - value) * 1.645 / 1.96 for end in (found.low, found.high))
            narrow += low <= truth <= high
    print(f"{held / _SETS:.2%} hold the truth")
    assert 0.93 <= held / _SETS <= 0.97
    assert narrow / _SETS < 0.93


@pytest.mark.parametrize("truth", [0.5, 0.8, 0.95])
def test_intervals_of_shares_cover_exactly(truth: float) -> None:
    """Over all outcomes of 200 rows, each with its binomial probability."""
    covered = 0.0
    for hits in range(201):
        found = wilson(mean_score([1.0] * hits + [0.0] * (200 - hits)))
        chance = math.comb(200, hits) * truth**hits * (1 - truth) ** (200 - hits)
        covered += chance * (found.low <= truth <= found.high)
    assert 0.93 <= covered <= 0.97


def test_all_right_is_not_certainty() -> None:
    found = wilson(mean_score([1.0] * 50))
    # Closed form: n / (n + z^2).
    assert found.high == 1.0 and found.low == pytest.approx(50 / (50 + 1.959964**2), abs=1e-6)
    assert intervals({"a": mean_score([1.0] * 50)})["a"] == found


def test_a_single_row_has_no_interval_unless_it_is_right_or_wrong() -> None:
    found = intervals({"a": mean_score([2.04]), "b": mean_score([1.0])})
    assert found["a"] is None and found["b"] is not None and found["b"].low < 0.3
    content = {
        "held_out": {
            "data": "held-out text",
            "perplexity": 2.04,
            "documents": 1,
            "intervals": {"perplexity": None},
        },
        "tasks": {},
    }
    table = score_table(content)
    assert "2.04" in table and "…" not in table


def test_a_score_without_spread_has_no_width() -> None:
    found = intervals({"a": mean_score([0.5] * 20)})["a"]
    assert found is not None
    assert found.low == pytest.approx(0.5) and found.high == pytest.approx(0.5)


REFERENCES = 4 * [
    f"the {cat} cat sat on the {mat} mat today"
    for cat in ("red", "big", "old")
    for mat in ("wet", "dry", "new", "thin")
]
WORSE = [text.replace("sat", "is") if i % 3 else text for i, text in enumerate(REFERENCES)]
OTHER = [text.replace("mat", "rug") if i % 2 else text for i, text in enumerate(REFERENCES)]


def _bleu(predictions: list[str]) -> Score:
    task = TaskSection(name="t", data="d", metrics=["bleu"], language="en")
    return METRICS["bleu"](Answers(task, predictions, [[one] for one in REFERENCES]))


def test_paired_significance_agrees_with_sacrebleu() -> None:
    found = difference(_bleu(WORSE), _bleu(OTHER))
    metric = sacrebleu.BLEU()
    systems = [("one", WORSE), ("other", OTHER)]
    _, scores = PairedTest(systems, {"BLEU": metric}, [REFERENCES], "ar", 2000)()
    one, other = scores["BLEU"]
    assert not isinstance(one, str) and not isinstance(other, str)
    assert found.value == pytest.approx(other.score - one.score)
    assert found.p == pytest.approx(other.p_value, abs=0.02)
    assert found.low <= found.value <= found.high


def test_no_difference_and_a_clear_one() -> None:
    same = difference(_bleu(WORSE), _bleu(WORSE))
    assert (same.value, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    clear = difference(mean_score([0.0] * 40), mean_score([1.0] * 30 + [0.0] * 10))
    assert clear.p < 0.001 and clear.low > 0.5


def test_chance_is_called_a_difference_as_rarely_as_promised() -> None:
    random = np.random.default_rng(3)
    false = 0
    for trial in range(200):
        one, other = (mean_score(random.normal(size=60)) for _ in range(2))
        false += difference(one, other, seed=trial).p < 0.05
    assert false / 200 < 0.1


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
