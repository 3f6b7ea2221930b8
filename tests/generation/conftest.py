"""A byte tokenizer and a small model for it."""

import codecs
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.generation import text
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.special import BOS, END, EOS, MASK, SPECIAL_TOKENS


class ByteTokenizer:
    """One token a byte, after the special ones. The real one has tests of its own."""

    vocab_size = 268
    bos_id, eos_id, turn_end_id = BOS, EOS, END
    stop_ids = frozenset({END, EOS})
    special_ids = frozenset(range(12))

    def encode(self, text: str) -> list[int]:
        return [12 + byte for byte in text.encode()]

    def encode_with_special(self, text: str) -> list[int]:
        parts = [self.encode(part) for part in text.split("[MASK]")]
        return [id for part in parts for id in (*part, MASK)][:-1]

    def token(self, id: int) -> str:
        return SPECIAL_TOKENS[id] if id < 12 else f"<{id}>"

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(id - 12 for id in ids if id >= 12).decode("utf-8", "replace")


class ByteDecoder:
    """Whole characters from bytes."""

    def __init__(self, _tokenizer: Any) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        return self.decoder.decode(bytes([id - 12]) if id >= 12 else b"")

    def flush(self) -> str:
        return self.decoder.decode(b"", True)


@pytest.fixture(autouse=True)
def byte_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "StreamDecoder", ByteDecoder)


@pytest.fixture
def tokenizer() -> Any:
    return ByteTokenizer()


@pytest.fixture
def model() -> Transformer:
    return make_model()


def make_model(**choices: Any) -> Transformer:
    """Random weights, large enough that the model is sure of what it says."""
    shape: dict[str, Any] = {
        "vocab_size": 268, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
        "head_dim": 8, "intermediate_size": 48, "context_length": 64,
    }  # fmt: skip
    model = Transformer(ModelConfig(**{**shape, **choices}))
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model.eval()
