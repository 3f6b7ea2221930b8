"""Adapters: at first nothing changes, merged equals beside, and PEFT computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from chatgpt_cli.config.schema import TrainingSection
from chatgpt_cli.interop.huggingface import load_model, save_model
from chatgpt_cli.model.inference import InferenceModel
from chatgpt_cli.model.lora import (
    Adapter,
    adapter_off,
    adapter_weights,
    add_adapter,
    merge_adapter,
)
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.training.loss import linear_cross_entropy
from chatgpt_cli.training.optimizer import Optimizers
from tests.interop.foreign_models import make_folder
from tests.model.test_transformer import build

TARGETS = ("q_proj", "v_proj", "up_proj", "down_proj")


def adapted(
    model: Transformer,
    base: str = "somewhere",
    targets: Any = TARGETS,
    tokens: tuple[int, ...] = (),
) -> Transformer:
    add_adapter(model, Adapter(4, 8.0, 0.0, tuple(targets), base, tokens), seed=1)
    return model


def spoil(model: Transformer) -> None:
    """As if trained: B is zero at first."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in adapter_weights(model).items():
        if name.endswith(("lora_B", "lora_rows")):
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1


def ids() -> torch.Tensor:
    return torch.randint(12, 60, (2, 12), generator=torch.Generator().manual_seed(2))


# Without and with rows of the tables; 12 to 60 occur.
TOKENS: list[tuple[int, ...]] = [(), (13, 40)]


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("tied", [True, False])
def test_nothing_changes_at_first_and_merging_changes_nothing(
    tied: bool, tokens: tuple[int, ...]
) -> None:
    def logits(model: Transformer) -> torch.Tensor:
        return model.logits(model(ids()))

    model = build(vocab_size=80, tie_embeddings=tied).eval()
    before = logits(model)
    adapted(model, tokens=tokens)
    assert torch.equal(logits(model), before)
    spoil(model)
    beside = logits(model)
    assert not torch.allclose(beside, before)
    with adapter_off(model):
        assert torch.equal(logits(model), before)
    merge_adapter(model)
    torch.testing.assert_close(logits(model), beside, atol=1e-5, rtol=1e-5)
    assert not adapter_weights(model) and all(p.requires_grad for p in model.parameters())
    names = [name for name, _ in model.named_parameters()]
    expected = build(vocab_size=80, tie_embeddings=tied).named_parameters()
    assert names == [name for name, _ in expected]


@pytest.mark.parametrize("tokens", TOKENS)
def test_only_the_adapter_is_trained(tokens: tuple[int, ...]) -> None:
    model = adapted(build(vocab_size=80), tokens=tokens)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizers = Optimizers(model, TrainingSection.model_validate({"optimizer": "adamw"}))
    for _ in range(2):
        features = model(ids()).flatten(0, 1)
        linear_cross_entropy(features, model.output_weight, ids().flatten()).backward()
        optimizers.step()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == set(adapter_weights(model))


def test_full_rank_equals_full_finetuning() -> None:
    """With A the identity, as many columns as inputs and scale 1, B is the change of W."""
    targets = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
    full, low = build(vocab_size=80), build(vocab_size=80)
    width = full.config.hidden_size
    add_adapter(low, Adapter(width, float(width), 0.0, targets, "somewhere"), seed=1)
    for name, parameter in low.named_parameters():
        if name.endswith("lora_A"):
            parameter.data = torch.eye(width)
            parameter.requires_grad_(False)
    for name, parameter in full.named_parameters():
        parameter.requires_grad_(name.split(".")[-2] in targets)
    for model in (full, low):
        learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(learnt, lr=0.05)
        for _ in range(5):
            optimizer.zero_grad()
            features = model(ids()).flatten(0, 1)
            (linear_cross_entropy(features, model.output_weight, ids().flatten()) / 24).backward()
            optimizer.step()
    merge_adapter(low)
    fresh = dict(build(vocab_size=80).named_parameters())
    merged = dict(low.named_parameters())
    for name, parameter in full.named_parameters():
        torch.testing.assert_close(merged[name], parameter, atol=1e-5, rtol=1e-4)
        assert torch.equal(parameter, fresh[name]) == (name.split(".")[-2] not in targets)


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_peft_reads_what_is_saved(name: str, tokens: tuple[int, ...], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    theirs = make_folder(tmp_path / "base", name)
    loaded = load_model(tmp_path / "base")
    model = adapted(loaded.model, base=str(tmp_path / "base"), tokens=tokens)
    spoil(model)
    save_model(model, loaded.tokenizer, tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    wrapped = peft.PeftModel.from_pretrained(theirs, str(tmp_path / "adapter")).eval()
    read = ids()
    with torch.no_grad():
        ours = model.logits(model(read))
        torch.testing.assert_close(wrapped(read).logits, ours, atol=1e-4, rtol=1e-4)
        merged = load_model(tmp_path / "adapter").model
        torch.testing.assert_close(merged.logits(merged(read)), ours, atol=1e-4, rtol=1e-4)
        again = load_model(tmp_path / "adapter", merge=False).model
        assert torch.equal(again.logits(again(read)), ours)


def test_what_is_written_during_training_is_the_adapted_model() -> None:
    model = adapted(build(vocab_size=80).eval(), tokens=(13, 40))
    spoil(model)
    writing = InferenceModel(model)
    cache = writing.new_cache()
    cache.reserve(2, 12)
    cache.lengths = [0, 0]
    expected = model.logits(model(ids()))[:, -1]
    found = writing.prefill(cache, 0, ids().tolist())
    torch.testing.assert_close(found, expected.detach(), atol=2e-5, rtol=1e-4)
    assert model.adapter is not None and adapter_weights(model)
