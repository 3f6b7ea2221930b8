"""Distillation against Hinton's formula with whole logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from chatgpt_cli.config.schema import DistillSection
from chatgpt_cli.data.batch import Batch
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.interop.huggingface import save_model
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training import distillation
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.distillation import DistilledLoss, Teacher
from chatgpt_cli.training.objective import TokenLoss
from tests.model.test_transformer import build
from tests.training.test_dpo import shaken

HARDWARE = Hardware(torch.device("cpu"), torch.float32, "matmul", False, 1)


def make_batch() -> Batch:
    ids = torch.randint(12, 80, (3, 20), generator=torch.Generator().manual_seed(1))
    labels = ids.roll(-1, 1)
    labels[:, -1] = -100
    labels[0, :7] = -100
    positions = torch.arange(20).expand(3, -1)
    return Batch(ids, labels, torch.ones_like(ids), positions)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_value_and_gradients(smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "CHUNK", 16)
    batch, model, big = make_batch(), shaken(1), shaken(2)
    share, temperature = 0.3, 2.5
    section = DistillSection(teacher="there", weight=share, temperature=temperature)
    objective = DistilledLoss(
        TokenLoss(HARDWARE, np.ones(80), smoothing), Teacher(big, section, "")
    )
    loss = objective(model, batch)
    (loss.total / 4).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    model.zero_grad()
    chosen = batch.labels.flatten() >= 0
    labels = batch.labels.flatten()[chosen]
    logits = model.logits(model(batch.input_ids)).flatten(0, 1)[chosen]
    with torch.no_grad():
        taught = big.logits(big(batch.input_ids)).flatten(0, 1)[chosen]
    soft = kl_div(
        log_softmax(logits / temperature, -1),
        log_softmax(taught / temperature, -1),
        reduction="sum",
        log_target=True,
    )
    hard = cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    (((1 - share) * hard + share * temperature**2 * soft) / 4).backward()
    plain = cross_entropy(logits, labels, reduction="sum")
    torch.testing.assert_close(loss.total, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss.sums["teacher_kl"], soft, rtol=1e-4, atol=1e-4)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-4)


def test_a_teacher_that_does_not_read_the_same_is_refused(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    model = build(vocab_size=400)
    save_model(model, tokenizer, tmp_path / "teacher")
    section = DistillSection(teacher=str(tmp_path / "teacher"))
    assert Teacher.load(section, tokenizer, causal=True, length=24, stage="auto").hash
    with pytest.raises(ConfigError, match="one is causal and the other is not"):
        Teacher.load(section, tokenizer, causal=False, length=24, stage="auto")
    with pytest.raises(ConfigError, match=r"context \(24\) is shorter than .* \(25 tokens\)"):
        Teacher.load(section, tokenizer, causal=True, length=25, stage="auto")

    class Other:
        hash = "other"

    with pytest.raises(ConfigError, match="different tokenizers"):
        other: Any = Other()
        Teacher.load(section, other, causal=True, length=24, stage="auto")
