"""What the look inside shows is what the model computed."""

import numpy as np
import pytest
import torch

from chatgpt_cli.evaluation.inspection import inspect
from chatgpt_cli.model.transformer import Attention
from chatgpt_cli.tokenizer.special import BOS, MASK
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from tests.evaluation.conftest import make_model

CHOICES = [{}, {"num_kv_heads": 4, "qk_norm": False, "positions": "learned"}, {"causal": False}]


@pytest.mark.parametrize("choices", CHOICES)
def test_attention_gives_the_layers_output_again(
    choices: dict[str, object], tokenizer: Tokenizer
) -> None:
    """Weights times values, through the output matrix, is what the layer put out."""
    model = make_model(tokenizer.vocab_size, **choices)
    ids = [BOS, *tokenizer.encode("the cat saw a red kite 小明")]
    outputs: list[torch.Tensor] = []
    values: list[torch.Tensor] = []

    def keep(module: Attention, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        x = inputs[0]
        split = module.v_proj(x).view(*x.shape[:2], -1, module.head_dim).transpose(1, 2)
        values.append(split.repeat_interleave(4 // split.shape[1], dim=1))
        outputs.append(output)

    hooks = [block.self_attn.register_forward_hook(keep) for block in model.model.blocks()]
    with torch.no_grad():
        model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    seen = inspect(model, tokenizer, ids)
    assert seen.attention.shape == (2, 4, len(ids), len(ids))
    assert np.allclose(seen.attention.sum(-1), 1, atol=1e-5)
    for layer, block in enumerate(model.model.blocks()):
        mixed = torch.tensor(seen.attention[layer])[None] @ values[layer]
        again = block.self_attn.o_proj(mixed.transpose(1, 2).reshape(1, len(ids), -1))
        torch.testing.assert_close(again, outputs[layer], atol=1e-4, rtol=1e-4)


def test_probabilities_of_a_causal_model(tokenizer: Tokenizer) -> None:
    model = make_model(tokenizer.vocab_size)
    ids = [BOS, *tokenizer.encode("the cat saw")]
    with torch.no_grad():
        wanted = model.logits(model(torch.tensor([ids])))[0].softmax(-1)
    seen = inspect(model, tokenizer, ids)
    assert seen.tokens[0].probability is None and seen.tokens[0].special
    for at, one in enumerate(seen.tokens[1:]):
        assert one.probability == pytest.approx(float(wanted[at, ids[at + 1]]), abs=1e-5)
        assert one.alternatives[0][1] == pytest.approx(float(wanted[at].max()), abs=1e-5)
    assert "".join(one.text for one in seen.tokens[1:]) == "the cat saw"


def test_a_masked_model_sees_all_but_the_token_itself(tokenizer: Tokenizer) -> None:
    model = make_model(tokenizer.vocab_size, causal=False)
    ids = [BOS, *tokenizer.encode("the cat saw")]
    seen = inspect(model, tokenizer, ids)
    hidden = torch.tensor([ids])
    hidden[0, 2] = MASK
    with torch.no_grad():
        wanted = model.logits(model(hidden))[0, 2].softmax(-1)[ids[2]]
    assert seen.tokens[2].probability == pytest.approx(float(wanted), abs=1e-5)


def test_longer_than_the_context(tokenizer: Tokenizer) -> None:
    model = make_model(tokenizer.vocab_size)
    assert len(inspect(model, tokenizer, [20] * 100).tokens) == model.config.context_length
