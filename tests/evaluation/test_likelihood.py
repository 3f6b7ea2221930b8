"""Choices with a shared prompt score what whole texts, one at a time, score."""

import pytest
import torch

from chatgpt_cli.evaluation.likelihood import continuation_likelihoods
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.special import BOS
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from tests.evaluation.conftest import make_model

PROMPTS = [[BOS, 20, 30, 40], [BOS, 50], [BOS, *range(60, 90)], [BOS, 20, 30, 41]]
CHOICES = [
    [[21], [22, 23, 24]],
    [[21], [25]],
    [[30, 31], [32, 33, 34, 35], [36]],
    [[99, 98], [97]],
]


def _whole(model: Transformer, prompt: list[int], choice: list[int]) -> float:
    with torch.no_grad():
        scores = model.logits(model(torch.tensor([prompt + choice[:-1]])))[0].log_softmax(-1)
    return sum(float(scores[len(prompt) - 1 + at, token]) for at, token in enumerate(choice))


@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize("kind", ["sdpa", "matmul"])
def test_equal_to_one_text_at_a_time(model: Transformer, batch_size: int, kind: str) -> None:
    model.set_attention("sdpa" if kind == "sdpa" else "matmul")
    done: list[int] = []
    found, cut = continuation_likelihoods(
        model, PROMPTS, CHOICES, bos_id=BOS, batch_size=batch_size, on_progress=done.append
    )
    assert cut == 0 and done[-1] == len(PROMPTS)
    for prompt, choices, scores in zip(PROMPTS, CHOICES, found, strict=True):
        assert scores == pytest.approx([_whole(model, prompt, one) for one in choices], abs=1e-4)


def test_more_choices_than_the_context_holds(model: Transformer) -> None:
    """The prompt is read again for those that do not fit beside the others."""
    prompt = [BOS, *range(20, 40)]
    choices = [[30 + n, *range(40, 40 + n)] for n in range(1, 12)]
    assert len(prompt) + sum(map(len, choices)) > 2 * model.config.context_length
    done: list[int] = []
    found, _ = continuation_likelihoods(
        model, [[BOS, 50], prompt], [[[21, 22]], choices], bos_id=BOS, on_progress=done.append
    )
    assert found[1] == pytest.approx([_whole(model, prompt, one) for one in choices], abs=1e-4)
    assert done[-1] == 2


def test_learned_positions(tokenizer: Tokenizer) -> None:
    """A choice stands where the prompt ends, whatever stands before it in its row."""
    model = make_model(tokenizer.vocab_size, positions="learned", norm="layernorm", mlp="gelu")
    found, _ = continuation_likelihoods(model, PROMPTS, CHOICES, bos_id=BOS)
    for prompt, choices, scores in zip(PROMPTS, CHOICES, found, strict=True):
        assert scores == pytest.approx([_whole(model, prompt, one) for one in choices], abs=1e-4)


def test_long_prompts_lose_their_beginning(model: Transformer) -> None:
    long = [BOS, *[20 + n % 60 for n in range(80)]]
    choice = [21, 22]
    ((score,),), cut = continuation_likelihoods(model, [long], [[choice]], bos_id=BOS)
    room = model.config.context_length - len(choice) + 1
    assert cut == 1
    assert score == pytest.approx(_whole(model, [BOS, *long[-room + 1 :]][:room], choice), abs=1e-4)


def test_a_continuation_must_fit(model: Transformer) -> None:
    with pytest.raises(ValueError, match="longer than the context"):
        continuation_likelihoods(model, [[BOS]], [[[20] * 60]], bos_id=BOS)
