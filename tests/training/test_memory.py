"""Advice on memory: in numbers that follow the shape, and only for its own kind of error."""

from typing import Literal

import numpy as np
import pytest
import torch

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.data.batch import Batch
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.training import memory
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.memory import (
    advise,
    fitting_sequences,
    is_out_of_memory,
    sequence_bytes,
    static_bytes,
)
from chatgpt_cli.training.objective import TokenLoss

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


def _saved_bytes(attention: Literal["sdpa", "matmul"], recompute: bool) -> float:
    """What autograd keeps of one sequence, without the weights."""
    hardware = Hardware(torch.device("cpu"), torch.bfloat16, attention, False, 1, recompute)
    model = Transformer(_SHAPE)
    model.initialize(1)
    model.set_attention(attention)
    model.set_gradient_checkpointing(recompute)
    kept = {p.untyped_storage().data_ptr(): 0 for p in model.parameters()}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept.setdefault(storage.data_ptr(), storage.nbytes())
        alive.append(tensor)
        return tensor

    ids = torch.randint(0, 4096, (2, 256))
    position_ids = torch.arange(256).expand(2, -1)
    batch = Batch(ids, ids, torch.ones_like(ids), position_ids)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        TokenLoss(hardware, np.ones(1))(model, batch)
    # Weights are also kept in the dtype in which they are multiplied.
    weights = sum(2 * p.numel() for p in model.parameters() if p.ndim == 2)
    return (sum(kept.values()) - weights) / 2


@pytest.mark.parametrize("attention", ["sdpa", "matmul"])
def test_a_sequence_takes_about_what_is_said(attention: Literal["sdpa", "matmul"]) -> None:
    hardware = Hardware(torch.device("cpu"), torch.bfloat16, attention, False, 1)
    said = sequence_bytes(_SHAPE, hardware, 256)
    assert said == pytest.approx(_saved_bytes(attention, False), rel=0.25)


def test_sequences_at_once_fit_and_divide_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def fitting(batch_size: int, free: int | None) -> int:
        monkeypatch.setattr(memory, "free_memory", lambda _device: free)
        return fitting_sequences(
            _SHAPE, _HARDWARE, optimizer="muon", length=256, batch_size=batch_size
        )

    assert fitting(16, 10**12) == 16
    assert fitting(16, None) == 16
    assert fitting(48, 10**12) == 24  # 32 would be 8,192 tokens
    assert fitting(16, 0) == 1
    each, static = sequence_bytes(_SHAPE, _HARDWARE, 256), static_bytes(_SHAPE, "muon")
    assert fitting(12, int((static + 8.5 * each) / 0.6)) == 6
