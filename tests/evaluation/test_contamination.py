"""Questions that training has seen are found, whatever stands around them; others are not."""

import numpy as np
import pytest

from chatgpt_cli.evaluation.contamination import _Text, overlap
from chatgpt_cli.evaluation.task_rows import TaskRow
from chatgpt_cli.tokenizer.chat import Message
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from tests.conftest import small_text


def _row(question: str) -> TaskRow:
    return TaskRow((Message("user", question),), ["yes"], "rows.jsonl:1")


def _changed(tokenizer: Tokenizer, text: str, at: float) -> str:
    """The text with the token at a share of its length replaced by another."""
    ids = tokenizer.encode(text)
    place = int(at * (len(ids) - 1))
    ids[place] = ids[place - 1] if ids[place - 1] != ids[place] else ids[place - 2]
    return tokenizer.decode(ids)


def test_seen_questions_are_found(tokenizer: Tokenizer) -> None:
    texts = small_text(60, seed=1)
    training = [np.array(tokenizer.encode(f"{a}\n{texts[7]}\nyes\n{texts[9]}")) for a in texts[:3]]
    rows = [
        _row(texts[7]),
        _row(texts[9]),
        _row(small_text(1, seed=2)[0]),
        _row(f"{texts[20]} {texts[7]}"),
        _row("a"),
    ]
    found = overlap(rows, tokenizer, training)
    assert found.seen == [True, True, False, False, False]
    assert found.searched_tokens == sum(map(len, training))


@pytest.mark.parametrize("at", [0.1, 0.5, 1.0])
def test_questions_of_the_same_form_are_not_the_same(tokenizer: Tokenizer, at: float) -> None:
    text = small_text(1, seed=3)[0]
    training = [np.array(tokenizer.encode(_changed(tokenizer, text, at)))]
    assert overlap([_row(text)], tokenizer, training).seen == [False]


def test_after_a_line_and_after_a_space(tokenizer: Tokenizer) -> None:
    text = small_text(1, seed=3)[0]
    for before in ("dog\n", "dog ", ""):
        training = [np.array(tokenizer.encode(before + text))]
        assert overlap([_row(text), _row(text)], tokenizer, training).seen == [True, True]


def test_many_questions(tokenizer: Tokenizer) -> None:
    texts = small_text(80, seed=4)
    rows = [_row(text) for text in [*texts, *small_text(80, seed=5)]]
    training = [np.array(tokenizer.encode("\n".join(texts)))]
    assert overlap(rows, tokenizer, training).seen == [True] * 80 + [False] * 80


def test_the_same_stretch_has_the_same_hash_anywhere() -> None:
    random = np.random.default_rng(0)
    ids = random.integers(0, 50, 300)
    one, other = _Text(ids), _Text(ids[100:200])
    for length in (1, 7, 100):
        assert np.array_equal(one.hashes(length)[100 : 201 - length], other.hashes(length))
    stretches = {tuple(ids[start : start + 7]) for start in range(294)}
    assert len(np.unique(one.hashes(7))) == len(stretches)


def test_nothing_to_search(tokenizer: Tokenizer) -> None:
    found = overlap([_row("the cat")], tokenizer, [])
    assert found.seen == [False] and found.searched_tokens == 0
    assert overlap([], tokenizer, []).seen == []
