"""The loss of packed sequences is that of the same sequences alone."""

import numpy as np
import pytest
import torch

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.data.packed import Conversations
from chatgpt_cli.data.packing import pack
from chatgpt_cli.model.transformer import AttentionKind, Transformer
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.objective import TokenLoss

_LENGTH = 64


def _conversations() -> Conversations:
    random = np.random.default_rng(1)
    lengths = random.integers(4, 40, size=24)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(9, 200, size=starts[-1]).astype(np.int32)
    return Conversations(ids, random.random(starts[-1]) < 0.4, starts, pad_id=0)


@pytest.mark.parametrize("attention", ["sdpa", "matmul"])
@pytest.mark.parametrize("positions", ["rope", "learned", "sinusoidal"])
def test_packed_training_has_the_same_loss_and_gradients(
    attention: AttentionKind, positions: str
) -> None:
    hardware = Hardware(torch.device("cpu"), torch.float32, attention, False, 1)
    shape = ModelConfig.model_validate(
        {"vocab_size": 200, "hidden_size": 32, "num_layers": 2, "num_heads": 2}
        | {"num_kv_heads": 2, "head_dim": 16, "intermediate_size": 64}
        | {"context_length": _LENGTH, "positions": positions}
    )
    model = Transformer(shape)
    model.initialize(3)
    # Output projections begin as zero: give attention something to say.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    data = _conversations()
    losses, gradients = [], []
    for bins in (pack(data.lengths, _LENGTH), [[row] for row in range(len(data))]):
        model.zero_grad()
        loss = TokenLoss(hardware, np.ones(200))(model, data.rows(bins, _LENGTH)).total
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert len(pack(data.lengths, _LENGTH)) < len(data) / 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, one in gradients[0].items():
        other = gradients[1][name]
        assert one is not None and other is not None
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
