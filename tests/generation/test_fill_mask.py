"""Filling masks."""

from typing import Any

import pytest
import torch

from chatgpt_cli.errors import ModelError
from chatgpt_cli.generation.fill_mask import fill_masks
from tests.generation.conftest import make_model


def test_candidates_are_the_models_most_probable_tokens(tokenizer: Any) -> None:
    model = make_model(causal=False)
    results = fill_masks(model, tokenizer, "a[MASK]c[MASK]", top=3)
    ids = torch.tensor([[4, 12 + 97, 6, 12 + 99, 6, 5]])
    with torch.no_grad():
        probabilities = model.logits(model(ids))[0].softmax(-1)
    assert len(results) == 2
    for position, candidates in zip((2, 4), results, strict=True):
        expected = probabilities[position, 12:].topk(3)
        assert [c.id for c in candidates] == (expected.indices + 12).tolist()
        assert [c.probability for c in candidates] == pytest.approx(
            expected.values.tolist(), rel=1e-5
        )
        assert candidates[0].text == tokenizer.decode([candidates[0].id])


def test_what_cannot_be_filled_is_explained(tokenizer: Any) -> None:
    model = make_model(causal=False)
    with pytest.raises(ModelError, match="no \\[MASK\\]"):
        fill_masks(model, tokenizer, "nothing to do")
    with pytest.raises(ModelError, match="103 tokens, the model reads 64"):
        fill_masks(model, tokenizer, "[MASK]" + "x" * 100)
    with pytest.raises(ModelError, match="continues text"):
        fill_masks(make_model(), tokenizer, "[MASK]")
