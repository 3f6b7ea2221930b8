"""A small model with random weights for the real tokenizer."""

from typing import Any

import pytest
import torch

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


def make_model(vocab_size: int, **choices: Any) -> Transformer:
    """Random weights, large enough that the model is sure of what it says."""
    shape: dict[str, Any] = {
        "vocab_size": vocab_size, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
        "num_kv_heads": 2, "head_dim": 8, "intermediate_size": 48, "context_length": 48,
    }  # fmt: skip
    model = Transformer(ModelConfig(**{**shape, **choices}))
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model.eval()


@pytest.fixture
def model(tokenizer: Tokenizer) -> Transformer:
    return make_model(tokenizer.vocab_size)
