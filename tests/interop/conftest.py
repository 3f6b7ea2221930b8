"""What saving and loading need of a tokenizer."""

from pathlib import Path

import pytest

from chatgpt_cli.interop import huggingface


class SmallTokenizer:
    """Stands in for the real one, which has tests of its own."""

    vocab_size = 268

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
