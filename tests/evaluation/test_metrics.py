"""Each metric against its reference implementation, on ordinary and on odd inputs."""

import math
import re
import string
from collections import Counter
from typing import get_args

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.ter import TER
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score

from chatgpt_cli.config.schema import Metric, TaskSection
from chatgpt_cli.errors import DataError
from chatgpt_cli.evaluation.answers import rouge_words
from chatgpt_cli.evaluation.metrics import METRICS
from chatgpt_cli.evaluation.metrics.matching import longest_common
from chatgpt_cli.evaluation.metrics.perplexity import likelihood_scores
from chatgpt_cli.evaluation.metrics.score import Answers, Score
from chatgpt_cli.evaluation.metrics.translation import is_too_short_for_bleu

WORDS = st.lists(st.sampled_from("the a cat dog sat on mat 12 Hello, world!".split()), max_size=8)  # noqa: SIM905
# Whatever can be typed, in several scripts, with odd spaces and marks.
ODD = st.text(
    st.sampled_from("ab 1.,!()[]-'\"\n\t\u3000的我。，！é\u0301ßЖ😀\u2028%&<>")
    | st.characters(codec="utf-8"),
    max_size=24,
)
TEXTS = WORDS.map(" ".join) | ODD
PAIRS = st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=6)
LABELS = ["positive", "negative", "正面"]
SAID = [*LABELS, "other"]


def _task(**values: object) -> TaskSection:
    return TaskSection.model_validate(
        {"name": "t", "data": "d", "metrics": ["bleu"], "language": "en", **values}
    )


def _score(name: str, predictions: list[str], references: list[str], **task: object) -> Score:
    return METRICS[name](Answers(_task(**task), predictions, [[one] for one in references]))


def test_the_schema_knows_every_metric() -> None:
    assert set(get_args(Metric)) == {*METRICS, "judge"}


@settings(max_examples=150)
@given(rows=PAIRS, language=st.sampled_from(["en", "zh"]))
def test_corpus_metrics_equal_sacrebleu(rows: list[tuple[str, list[str]]], language: str) -> None:
    predictions = [said for said, _ in rows]
    answers = Answers(_task(language=language), predictions, [accepted for _, accepted in rows])
    most = max(len(accepted) for _, accepted in rows)
    streams = [[a[k] if k < len(a) else None for _, a in rows] for k in range(most)]
    chinese = language == "zh"
    wanted = {
        "bleu": sacrebleu.BLEU(tokenize="zh" if chinese else "13a"),
        "chrf": sacrebleu.CHRF(),
        "chrf++": sacrebleu.CHRF(word_order=2),
        "ter": TER(normalized=chinese, asian_support=chinese),
    }
    for name, metric in wanted.items():
        score = METRICS[name](answers)
        assert score.value == pytest.approx(metric.corpus_score(predictions, streams).score), name
        assert score.signature == str(metric.get_signature())
        if name == "bleu":
            metric = sacrebleu.BLEU(tokenize="zh" if chinese else "13a", effective_order=True)
        for own, (said, accepted) in zip(score.rows, rows, strict=True):
            assert own == pytest.approx(metric.sentence_score(said, accepted).score), name


def test_bleu_of_references_too_short_for_it() -> None:
    short = _score("bleu", ["a red kite", "Tom"], ["a red kite", "Tom"])
    assert short.value == 0 and is_too_short_for_bleu(short)
    assert not is_too_short_for_bleu(_score("bleu", ["no", "Tom"], ["we saw a dog", "Tom"]))


def test_bleu_takes_the_tokenizer_of_the_language() -> None:
    chinese = _score("bleu", ["小明在公园里看书。"], ["小明在公园里读书。"], language="auto")
    assert chinese.signature is not None and "tok:zh" in chinese.signature
    english = _score("bleu", ["a"], ["a"], language="auto").signature
    assert english is not None and "tok:13a" in english


@settings(max_examples=80)
@given(rows=st.lists(st.tuples(st.sampled_from(SAID), st.sampled_from(LABELS)), min_size=1))
def test_class_scores_equal_scikit_learn(rows: list[tuple[str, str]]) -> None:
    said, truth = [a for a, _ in rows], [b for _, b in rows]
    present = [name for name in LABELS if name in said or name in truth]
    arguments = {"labels": present, "zero_division": 0}
    for name, function, average in (
        ("f1", f1_score, "macro"),
        ("f1_micro", f1_score, "micro"),
        ("f1_weighted", f1_score, "weighted"),
        ("precision", precision_score, "macro"),
        ("recall", recall_score, "macro"),
    ):
        score = _score(name, said, truth, labels=LABELS)
        assert score.value == pytest.approx(function(truth, said, average=average, **arguments))
    table = confusion_matrix(truth, said, labels=[*LABELS, "other"])
    assert score.details["confusion"]["counts"] == table[:3].tolist()
    each = f1_score(truth, said, average=None, labels=LABELS, zero_division=0)
    assert [one["f1"] for one in score.details["classes"].values()] == pytest.approx(list(each))


@settings(max_examples=60)
@given(rows=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_calibration_error_by_its_definition(rows: list[tuple[float, bool]]) -> None:
    answers = Answers(
        _task(),
        ["yes" if right else "no" for _, right in rows],
        [["yes"]] * len(rows),
        confidences=[sure for sure, _ in rows],
    )
    gap = 0.0
    for k in range(15):
        inside = [r for r in rows if k / 15 < r[0] <= (k + 1) / 15 or (k == 0 and r[0] == 0)]
        if inside:
            sure, right = (sum(one[i] for one in inside) / len(inside) for i in (0, 1))
            gap += len(inside) / len(rows) * abs(sure - right)
    assert METRICS["calibration_error"](answers).value == pytest.approx(gap)


def test_calibration_needs_probabilities_and_classes_need_labels() -> None:
    with pytest.raises(DataError, match="probabilities"):
        _score("calibration_error", ["a"], ["a"])
    with pytest.raises(DataError, match="labels"):
        _score("f1_micro", ["a"], ["a"])
    with pytest.raises(DataError, match="not among the labels"):
        _score("f1", ["positive"], ["good"], labels=LABELS)


def _squad(text: str) -> list[str]:
    """The published rule: lower case, no punctuation, no articles, single spaces."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


@settings(max_examples=100)
@given(a=WORDS, b=WORDS)
def test_token_f1_and_exact_match_follow_squad(a: list[str], b: list[str]) -> None:
    one, other = _squad(" ".join(a)), _squad(" ".join(b))
    same = sum((Counter(one) & Counter(other)).values())
    if not one or not other:
        wanted = float(one == other)
    else:
        wanted = 2 * same / (len(one) + len(other)) if same else 0.0
    assert _score("f1", [" ".join(a)], [" ".join(b)]).value == pytest.approx(wanted)
    exact = _score("exact_match", [" ".join(a)], [" ".join(b)]).value
    assert exact == float(one == other)


def test_chinese_f1_counts_characters() -> None:
    score = _score("f1", ["在花园里。"], ["花园里"], language="zh")
    assert score.value == pytest.approx(2 * 3 / (4 + 3))


def _common(a: list[str], b: list[str]) -> int:
    """The textbook's table."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            same = table[i][j] + 1
            table[i + 1][j + 1] = same if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@settings(max_examples=100)
@given(a=TEXTS, b=TEXTS)
def test_rouge_is_the_longest_common_subsequence(a: str, b: str) -> None:
    one, other = rouge_words(a), rouge_words(b)
    assert longest_common(one, other) == _common(one, other)
    common = _common(one, other)
    wanted = 2 * common / (len(one) + len(other)) if common else 0.0
    assert _score("rouge_l", [a], [b]).value == pytest.approx(wanted)


@given(text=st.text(st.characters(codec="ascii"), max_size=30))
def test_rouge_words_of_ascii_are_those_of_rouge_score(text: str) -> None:
    assert rouge_words(text) == re.sub(r"[^a-z0-9]+", " ", text.lower()).split()


def test_rouge_equals_rouge_score() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge-score is not installed")
    pairs = [("The cat sat on the mat.", "the cat was on a mat"), ("a b c d", "d c b a"), ("", "x")]
    for said, wanted in pairs:
        found = scorer.RougeScorer(["rougeL"]).score(wanted, said)["rougeL"].fmeasure
        assert _score("rouge_l", [said], [wanted]).value == pytest.approx(found)


@pytest.mark.parametrize(
    ("prediction", "reference", "right"),
    [
        ("3 + 5 = 8, so the answer is 68.", "68", 1.0),
        ("答案是６８", "68", 1.0),
        ("1,234", "1234", 1.0),
        ("about 68 or 69", "68", 0.0),
        ("no idea", "68", 0.0),
    ],
)
def test_numbers(prediction: str, reference: str, right: float) -> None:
    assert _score("accuracy", [prediction], [reference], answer="number").value == right


def test_labels() -> None:
    score = _score("accuracy", [" Positive", "good", "正面"], ["positive", "positive", "正面"],
                   labels=LABELS)  # fmt: skip
    assert score.value == pytest.approx(2 / 3) and score.details["invalid"] == 1


def test_several_references() -> None:
    answers = Answers(_task(), ["in the garden"], [["outside", "the garden", "In garden"]])
    assert METRICS["exact_match"](answers).value == 1.0


def test_variety_by_hand() -> None:
    answers = Answers(_task(), ["go go go", "go on", "", "我我"], [["x"]] * 4)
    # Words go, on, 我 of 7; pairs (go go), (go on), (我 我) of 4.
    assert METRICS["distinct_1"](answers).value == pytest.approx(3 / 7)
    assert METRICS["distinct_2"](answers).value == pytest.approx(3 / 4)
    looping = Answers(_task(), ["a b c d a b c d", "a b"], [["x"]] * 2)
    # abcd bcda cdab dabc abcd: one of five said before; the second answer has none.
    assert METRICS["repetition"](looping).value == pytest.approx((1 / 5 + 0) / 2)


def test_choice_by_likelihood_and_by_likelihood_per_byte() -> None:
    answers = Answers(
        _task(answer="choice", labels=["yes", "certainly not"]),
        ["yes", "yes"],
        [["certainly not"], ["yes"]],
        choices=[["yes", "certainly not"]] * 2,
        likelihoods=[[-3.0, -6.0], [-1.0, -20.0]],
    )
    assert METRICS["accuracy"](answers).value == 0.5
    assert METRICS["accuracy_normalized"](answers).value == 1.0


def test_perplexity_and_bits_per_byte_in_closed_form() -> None:
    documents = np.array([[10.0, 5, 20, 1], [20.0, 10, 40, 2]])
    scores = likelihood_scores(documents)
    assert scores["perplexity"].value == pytest.approx(math.exp(2))
    assert scores["bits_per_byte"].value == pytest.approx(30 / math.log(2) / 60)
    assert scores["perplexity"].rows == pytest.approx([math.exp(2), math.exp(2)])
    assert "bits_per_byte" not in likelihood_scores(np.array([[1.0, 1, 0, 1]]))


@pytest.mark.parametrize("name", [n for n in METRICS if n != "accuracy_normalized"])
@pytest.mark.parametrize("text", ["", " ", "。", "\n", "😀", "a的b", "\u0301"])
def test_odd_texts_do_not_break(name: str, text: str) -> None:
    for prediction, reference in ((text, "a"), ("a", text), (text, text)):
        task = _task(labels=[reference, "b"]) if _task().suits(name) is False else _task()
        answers = Answers(task, [prediction], [[reference]], confidences=[0.5])
        score = METRICS[name](answers)
        assert 0 <= score.value <= 100.0001
        assert len(score.rows) == 1 and score.value == score.of(np.ones(1))
