"""Held-out text is known by its content, whatever tokenizer and packing it went through."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.config.schema import FinetuneSection, TokenizerSection
from chatgpt_cli.data.batch import Batch
from chatgpt_cli.data.loader import window_batch
from chatgpt_cli.data.masking import MaskedHeldOut, Masking
from chatgpt_cli.data.sft import held_out_conversations
from chatgpt_cli.data.shards import Borders
from chatgpt_cli.evaluation.held_out_text import HeldOutText, in_text_order
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.tokenizer.train import train_tokenizer
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.validation import document_losses
from tests.conftest import small_text

TEXTS = small_text(12)


@pytest.fixture(scope="module")
def other() -> Tokenizer:
    return train_tokenizer(small_text(300), TokenizerSection(type="bpe", vocab_size=360))


def _windows(texts: Sequence[str], tokenizer: Tokenizer, length: int) -> list[Batch]:
    """The texts as a stream, in windows that share one token."""
    documents = [tokenizer.document(tokenizer.encode(text)) for text in texts]
    stream = [token for document in documents for token in document]
    stream += [Borders().bos] * (-(len(stream) - 1) % length)
    rows = np.array([stream[i : i + length + 1] for i in range(0, len(stream) - 1, length)])
    return [window_batch(rows[i : i + 2], Borders()) for i in range(0, len(rows), 2)]


def _measured(
    batches: Iterable[Batch], tokenizer: Tokenizer, *, causal: bool = True
) -> tuple[np.ndarray, str]:
    """The losses of a model with random weights, and what the text is known by."""
    torch.manual_seed(0)
    shape = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_layers=1, num_heads=1,
        num_kv_heads=1, head_dim=16, intermediate_size=16, context_length=512, causal=causal,
    )  # fmt: skip
    hardware = Hardware(torch.device("cpu"), torch.float32, "matmul", False, 1)
    text = HeldOutText(batches, tokenizer, causal=causal)
    documents = document_losses(Transformer(shape), text, tokenizer.token_bytes, hardware)
    return in_text_order(documents, *text.hashes())


def test_the_same_text_in_other_tokens(tokenizer: Tokenizer, other: Tokenizer) -> None:
    one, known = _measured(_windows(TEXTS, tokenizer, 40), tokenizer)
    two, again = _measured(_windows(TEXTS[::-1], other, 64), other)
    assert known == again and len(one) == len(TEXTS)
    # The same documents in one order: as many bytes each, in other tokens.
    np.testing.assert_array_equal(one[:, 2], two[:, 2])
    assert one[:, 2].sum() == sum(len(text.encode()) for text in TEXTS)
    assert one[:, 1].sum() != two[:, 1].sum()


def test_another_text_of_the_same_lengths(tokenizer: Tokenizer) -> None:
    others = [*TEXTS[:-1], TEXTS[-1][:-1] + ("1" if TEXTS[-1][-1] == "2" else "2")]
    one, known = _measured(_windows(TEXTS, tokenizer, 40), tokenizer)
    two, again = _measured(_windows(others, tokenizer, 40), tokenizer)
    assert known != again and sorted(one[:, 2]) == sorted(two[:, 2])


def test_packed_rows(tokenizer: Tokenizer, other: Tokenizer, tmp_path: Path) -> None:
    """Rows are packed by tokens, so that other tokenizers have them in another order."""
    rows = [{"instruction": text[:20], "output": text[20:]} for text in small_text(20, seed=1)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    section = FinetuneSection(data=[str(path)], validation_data=[str(path)])

    def measured(tokenizer: Tokenizer) -> tuple[np.ndarray, str]:
        return _measured(held_out_conversations(section, tokenizer, 256), tokenizer)

    one, known = measured(tokenizer)
    two, again = measured(other)
    assert known == again and len(one) == len(rows)
    np.testing.assert_array_equal(one[:, 2], two[:, 2])
    # Another question with the same answer is another text.
    rows[3]["instruction"] = rows[3]["instruction"][::-1]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert measured(tokenizer)[1] != known


def test_what_is_hidden_belongs_to_the_text(tokenizer: Tokenizer) -> None:
    windows = _windows(TEXTS, tokenizer, 40)
    found = [
        _measured(
            MaskedHeldOut(windows, Masking(tokenizer.vocab_size, 0.3, seed)),
            tokenizer,
            causal=False,
        )
        for seed in (1, 2)
    ]
    assert found[0][1] == found[1][1] == _measured(windows, tokenizer)[1]
    assert not np.array_equal(found[0][0][:, 2], found[1][0][:, 2])
