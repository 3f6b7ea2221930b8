"""The metrics of answers: each one function of predictions and references.

A new metric is a function of the type `Metric` with a line in `METRICS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from chatgpt_cli.config.schema import TaskSection
from chatgpt_cli.evaluation.answers import Language, label, language_of, last_number, words

# What is measured on text, by its likelihood, and not on answers.
LIKELIHOOD = ("perplexity", "bits_per_byte")

References = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Score:
    """A metric's value over all rows, and of each row.

    `rows` are in the value's unit: their mean is the value, except where a metric is
    of the corpus (BLEU, chrF, F1 of classes). `details` are JSON values.
    """

    value: float
    rows: list[float]
    signature: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


Metric = Callable[[Sequence[str], References, TaskSection], Score]


def accuracy(predictions: Sequence[str], references: References, task: TaskSection) -> Score:
    """Share of answers equal to a reference, without case and surrounding spaces.

    An answer that is no label of the task, or has no number where one is wanted, is
    wrong and counted in `details["invalid"]`.
    """
    number = task.answer == "number"
    read: Callable[[str], str] = (lambda text: last_number(text) or "") if number else label
    known = None if task.labels is None else {label(name) for name in task.labels}
    answers = [read(text) for text in predictions]
    valid = [
        answer in known if known is not None else answer != "" or not number for answer in answers
    ]
    rows = [
        float(fine and answer in map(read, accepted))
        for fine, answer, accepted in zip(valid, answers, references, strict=True)
    ]
    details = {"invalid": valid.count(False)} if number or known is not None else {}
    return Score(_mean(rows), rows, details=details)


def exact_match(predictions: Sequence[str], references: References, task: TaskSection) -> Score:
    """Share of answers with the same words as a reference (see `answers.words`)."""
    rows = [
        float(
            any(
                _units(prediction, task, language) == _units(one, task, language)
                for one in accepted
            )
        )
        for prediction, accepted, language in _by_language(predictions, references, task)
    ]
    return Score(_mean(rows), rows)


def f1(predictions: Sequence[str], references: References, task: TaskSection) -> Score:
    """F1 of classes (macro) for a task with labels, of words otherwise."""
    if task.labels is not None:
        return class_f1(predictions, references, task.labels)
    rows = [
        max(
            _overlap(_units(prediction, task, language), _units(one, task, language))
            for one in accepted
        )
        for prediction, accepted, language in _by_language(predictions, references, task)
    ]
    return Score(_mean(rows), rows)


def class_f1(predictions: Sequence[str], references: References, labels: Sequence[str]) -> Score:
    """Macro F1 over the labels that occur, with the confusion matrix.

    An answer that is no label is a miss of the true class and a hit of none. Where
    a row has several references, the one that was answered counts, else the first.
    """
    keys = [label(name) for name in labels]
    other = len(keys)
    pairs = []
    for prediction, accepted in zip(predictions, references, strict=True):
        answer = label(prediction)
        true = [label(one) for one in accepted]
        pairs.append((keys.index(answer if answer in true and answer in keys else true[0]), answer))
    counts = [[0] * (other + 1) for _ in keys]
    for truth, answer in pairs:
        counts[truth][keys.index(answer) if answer in keys else other] += 1
    classes = {name: _class_scores(counts, index) for index, name in enumerate(labels)}
    present = [
        one["f1"]
        for index, one in enumerate(classes.values())
        if one["support"] or any(row[index] for row in counts)
    ]
    hits = sum(counts[index][index] for index in range(other))
    answered = sum(sum(row[:other]) for row in counts)
    details = {
        "macro": _mean(present),
        # 2PR/(P + R) with P = hits / answered and R = hits / all.
        "micro": 2 * hits / max(1, answered + len(pairs)),
        "classes": classes,
        "confusion": {"labels": list(labels), "counts": counts},
        "invalid": sum(row[other] for row in counts),
    }
    rows = [float(keys[truth] == answer) for truth, answer in pairs]
    return Score(_mean(present), rows, details=details)


def bleu(predictions: Sequence[str], references: References, task: TaskSection) -> Score:
    """Corpus BLEU by sacrebleu, 0 to 100, with the tokenizer of the answers' language."""
    tokenizer = "zh" if _language(references, task) == "zh" else "13a"
    corpus = BLEU(tokenize=tokenizer)
    result = corpus.corpus_score(predictions, _streams(references))
    sentence = BLEU(tokenize=tokenizer, effective_order=True)
    rows = [
        sentence.sentence_score(prediction, accepted).score
        for prediction, accepted in zip(predictions, references, strict=True)
    ]
    details = {"brevity_penalty": result.bp, "precisions": result.precisions}
    return Score(result.score, rows, str(corpus.get_signature()), details)


def chrf(predictions: Sequence[str], references: References, _task: TaskSection) -> Score:
    """Corpus chrF (chrF2, Popović 2015) by sacrebleu, 0 to 100."""
    metric = CHRF()
    result = metric.corpus_score(predictions, _streams(references))
    rows = [
        metric.sentence_score(prediction, accepted).score
        for prediction, accepted in zip(predictions, references, strict=True)
    ]
    return Score(result.score, rows, str(metric.get_signature()))


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "exact_match": exact_match,
    "bleu": bleu,
    "chrf": chrf,
}


def _units(text: str, task: TaskSection, language: Language) -> list[str]:
    """What is compared of a text; an answer without a number is equal to none."""
    if task.answer == "number":
        return [last_number(text) or "no number"]
    return words(text, language)


def _by_language(
    predictions: Sequence[str], references: References, task: TaskSection
) -> list[tuple[str, Sequence[str], Language]]:
    return [
        (prediction, accepted, _language([accepted], task))
        for prediction, accepted in zip(predictions, references, strict=True)
    ]


def _language(references: References, task: TaskSection) -> Language:
    if task.language != "auto":
        return task.language
    return language_of(text for accepted in references for text in accepted)


def _overlap(predicted: list[str], wanted: list[str]) -> float:
    """F1 of two bags of words; of two empty ones 1 (SQuAD 2.0's rule)."""
    if not predicted or not wanted:
        return float(predicted == wanted)
    same = sum((Counter(predicted) & Counter(wanted)).values())
    return 2 * same / (len(predicted) + len(wanted))


def _class_scores(counts: list[list[int]], index: int) -> dict[str, float]:
    hits = counts[index][index]
    answered = sum(row[index] for row in counts)
    support = sum(counts[index])
    return {
        "precision": hits / answered if answered else 0.0,
        "recall": hits / support if support else 0.0,
        "f1": 2 * hits / (answered + support) if answered + support else 0.0,
        "support": support,
    }


def _streams(references: References) -> Any:
    """References as sacrebleu takes them: stream k holds every row's k-th, or None."""
    most = max(len(accepted) for accepted in references)
    return [
        [accepted[k] if k < len(accepted) else None for accepted in references] for k in range(most)
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
