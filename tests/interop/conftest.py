"""What saving and loading need of a tokenizer."""

from pathlib import Path

import pytest

from chatgpt_cli.interop import huggingface
from chatgpt_cli.tokenizer.special import BOS, END, EOS, PAD


class SmallTokenizer:
    """Stands in for the real one, which has tests of its own."""

    vocab_size = 268
    bos_id, eos_id, pad_id = BOS, EOS, PAD
    stop_ids = frozenset({END, EOS})

    @classmethod
    def load(cls, _folder: Path) -> "SmallTokenizer":
        return cls()

    def save(self, folder: Path) -> None:
        (folder / "tokenizer.model").write_bytes(b"")


@pytest.fixture
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> SmallTokenizer:
    """A tokenizer of 268 tokens that every folder seems to hold."""
    monkeypatch.setattr(huggingface, "Tokenizer", SmallTokenizer)
    return SmallTokenizer()
