"""Metrics of single answers: is it right, and how much of it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from chatgpt_cli.evaluation.answers import Language, label, last_number, rouge_words, words
from chatgpt_cli.evaluation.metrics.score import Answers, Score, mean_score


def accuracy(answers: Answers) -> Score:
    """Share of answers equal to a reference, without case and surrounding spaces.

    An answer that is no label of the task, or has no number where one is wanted, is
    wrong and counted in `details["invalid"]`.
    """
    number = answers.task.answer == "number"
    read: Callable[[str], str] = (lambda text: last_number(text) or "") if number else label
    labels = answers.task.labels
    known = None if labels is None else {label(name) for name in labels}
    said = [read(text) for text in answers.predictions]
    valid = [
        answer in known if known is not None else answer != "" or not number for answer in said
    ]
    rows = [
        float(fine and answer in map(read, accepted))
        for fine, answer, accepted in zip(valid, said, answers.references, strict=True)
    ]
    details = {"invalid": valid.count(False)} if number or known is not None else {}
    return mean_score(rows, details=details)


def exact_match(answers: Answers) -> Score:
    """Share of answers with the same words as a reference (see `answers.words`)."""
    number = answers.task.answer == "number"
    return mean_score(
        [
            float(any(_units(said, number, lang) == _units(one, number, lang) for one in accepted))
            for said, accepted, lang in answers.by_row()
        ]
    )


def token_f1(answers: Answers) -> Score:
    """Mean F1 of the words of answer and nearest reference (SQuAD); of Chinese, characters."""
    number = answers.task.answer == "number"
    return mean_score(
        [
            max(_overlap(_units(said, number, lang), _units(one, number, lang)) for one in accepted)
            for said, accepted, lang in answers.by_row()
        ]
    )


def rouge_l(answers: Answers) -> Score:
    """Mean ROUGE-L F1 (Lin 2004): the longest common subsequence of words or characters."""
    return mean_score(
        [
            max(_rouge(rouge_words(said), rouge_words(one)) for one in accepted)
            for said, accepted, _ in answers.by_row()
        ]
    )


def _units(text: str, number: bool, language: Language) -> list[str]:
    """What is compared of a text; an answer without a number is equal to none."""
    if number:
        return [last_number(text) or "no number"]
    return words(text, language)


def _overlap(predicted: list[str], wanted: list[str]) -> float:
    """F1 of two bags of words; of two empty ones 1 (SQuAD 2.0's rule)."""
    if not predicted or not wanted:
        return float(predicted == wanted)
    same = sum((Counter(predicted) & Counter(wanted)).values())
    return 2 * same / (len(predicted) + len(wanted))


def _rouge(predicted: list[str], wanted: list[str]) -> float:
    if not predicted or not wanted:
        return 0.0
    return 2 * longest_common(predicted, wanted) / (len(predicted) + len(wanted))


def longest_common(one: list[str], other: list[str]) -> int:
    """Length of the longest common subsequence, bit-parallel (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for index, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << index
    full = (1 << len(one)) - 1
    row = full
    for word in other:
        matches = row & places.get(word, 0)
        row = (row + matches) | (row - matches)
    return len(one) - (row & full).bit_count()
