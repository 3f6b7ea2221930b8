"""Advice on memory: in numbers that follow the shape, and only for its own kind of error."""

import pytest
import torch

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.training import memory
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.memory import advise, is_out_of_memory, sequence_bytes, static_bytes

_SHAPE = ModelConfig(vocab_size=4096)
_HARDWARE = Hardware(torch.device("cpu"), torch.float32, "matmul", False, 1)


def test_kinds_of_error() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60)
    assert is_out_of_memory(error.value)
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def test_the_static_part_is_exact() -> None:
    count = _SHAPE.num_parameters()
    assert static_bytes(_SHAPE, "adamw") == 16 * count
    inside = _SHAPE.num_parameters(embeddings=False)
    assert static_bytes(_SHAPE, "muon") == 16 * count - 4 * inside


def test_advice_names_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    each = sequence_bytes(_SHAPE, _HARDWARE, 256)
    room = static_bytes(_SHAPE, "muon") + 600_000_000 + 5 * each
    for total, words in ((room, "micro_batch_size: 5 "), (10**8, "smaller sequence_length")):
        monkeypatch.setattr(memory, "total_memory", lambda _device, total=total: total)
        text = advise(_SHAPE, _HARDWARE, optimizer="muon", micro_batch_size=64, sequence_length=256)
        assert words in text and "GB" in text
