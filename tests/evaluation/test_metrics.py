"""Each metric against its reference implementation, on ordinary and on odd inputs."""

import re
import string
from collections import Counter

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from chatgpt_cli.config.schema import TaskSection
from chatgpt_cli.evaluation.metrics import METRICS, Score

WORDS = st.lists(st.sampled_from("the a cat dog sat on mat 12 Hello, world!".split()), max_size=8)  # noqa: SIM905
LABELS = ["positive", "negative", "正面"]


def _task(**values: object) -> TaskSection:
    return TaskSection.model_validate(
        {"name": "t", "data": "d", "metrics": ["bleu"], "language": "en", **values}
    )


def _score(name: str, predictions: list[str], references: list[str], **task: object) -> Score:
    return METRICS[name](predictions, [[one] for one in references], _task(**task))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6))
def test_bleu_and_chrf_equal_sacrebleu(rows: list[tuple[list[str], list[str]]]) -> None:
    predictions = [" ".join(a) for a, _ in rows]
    references = [" ".join(b) for _, b in rows]
    bleu = _score("bleu", predictions, references)
    assert bleu.value == pytest.approx(sacrebleu.corpus_bleu(predictions, [references]).score)
    chrf = _score("chrf", predictions, references)
    assert chrf.value == pytest.approx(sacrebleu.corpus_chrf(predictions, [references]).score)


def test_bleu_takes_the_tokenizer_of_the_language() -> None:
    predictions, references = ["小明在公园里看书。"], ["小明在公园里读书。"]
    automatic = _score("bleu", predictions, references, language="auto")
    wanted = sacrebleu.corpus_bleu(predictions, [references], tokenize="zh").score
    assert automatic.value == pytest.approx(wanted)
    assert automatic.signature is not None and "tok:zh" in automatic.signature
    english = _score("bleu", ["a"], ["a"], language="auto").signature
    assert english is not None and "tok:13a" in english


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1))
def test_class_f1_equals_scikit_learn(rows: list[tuple[str, str]]) -> None:
    predictions, references = [a for a, _ in rows], [b for _, b in rows]
    score = _score("f1", predictions, references, labels=LABELS)
    wanted = f1_score(references, predictions, average="macro", zero_division=0)
    assert score.value == pytest.approx(wanted)


def _squad(text: str) -> list[str]:
    """The published rule: lower case, no punctuation, no articles, single spaces."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


@settings(max_examples=100, deadline=None)
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
    task = _task()
    best = METRICS["exact_match"](["in the garden"], [["outside", "the garden", "In garden"]], task)
    assert best.value == 1.0


@pytest.mark.parametrize("name", list(METRICS))
@pytest.mark.parametrize("text", ["", " ", "。", "\n", "😀", "a的b", "\u0301"])
def test_odd_texts_do_not_break(name: str, text: str) -> None:
    for prediction, reference in ((text, "a"), ("a", text), (text, text)):
        score = _score(name, [prediction], [reference])
        assert 0 <= score.value <= 100.0001
