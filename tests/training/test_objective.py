"""The loss of packed sequences is that of the same sequences alone."""

import numpy as np
import pytest
import torch

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.data.batch import Batch
from chatgpt_cli.data.packed import Conversations
from chatgpt_cli.data.packing import pack
from chatgpt_cli.data.shared_prompts import share_prompts
from chatgpt_cli.model.transformer import AttentionKind, Transformer
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.objective import TokenLoss

_LENGTH = 64


def _conversations() -> Conversations:
    """Half of them begin like others."""
    random = np.random.default_rng(1)
    lengths = random.integers(22, 40, size=24)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(9, 200, size=starts[-1]).astype(np.int32)
    targets = random.random(starts[-1]) < 0.4
    for row, start in enumerate(starts[:12]):
        ids[start : start + 18] = ids[starts[row % 3] : starts[row % 3] + 18]
        targets[start : start + 19] = False
        targets[start + 19] = True
    return Conversations(ids, targets, starts, pad_id=0)


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
    shared = share_prompts(data, _LENGTH)
    packed = pack(data.lengths, _LENGTH)
    branched = pack(shared.lengths, _LENGTH)
    assert len(branched) < len(packed) < 0.75 * len(data)
    alone = _loss(model, hardware, data.rows([[row] for row in range(len(data))], _LENGTH))
    for batch in (data.rows(packed, _LENGTH), shared.rows(branched, _LENGTH)):
        loss, gradients = _loss(model, hardware, batch)
        assert loss == pytest.approx(alone[0], rel=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, alone[1][name], rtol=1e-3, atol=1e-4)


def _loss(
    model: Transformer, hardware: Hardware, batch: Batch
) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and the gradient of every parameter."""
    model.zero_grad()
    loss = TokenLoss(hardware, np.ones(200))(model, batch).total
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) == len(list(model.parameters()))
    return loss.item(), gradients
