"""Which parameter goes where, and that the optimizers' state survives being saved."""

import pytest
import torch

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.config.schema import TrainingSection
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.training.optimizer import Optimizers


def _model() -> Transformer:
    model = Transformer(
        ModelConfig(
            vocab_size=40,
            hidden_size=16,
            num_layers=2,
            num_heads=2,
            num_kv_heads=2,
            head_dim=8,
            intermediate_size=32,
            context_length=8,
        )
    )
    model.initialize(0)
    return model


def _step(model: Transformer, optimizers: Optimizers, seed: int) -> None:
    ids = torch.randint(12, 40, (2, 8), generator=torch.Generator().manual_seed(seed))
    hidden = model(ids)
    torch.nn.functional.cross_entropy(model.logits(hidden).flatten(0, 1), ids.flatten()).backward()
    optimizers.step()


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_saved_state_continues_to_the_same_bits(kind: str) -> None:
    section = TrainingSection.model_validate({"optimizer": kind, "l1": 1e-3})
    straight, resumed = _model(), _model()
    first = Optimizers(straight, section)
    for seed in range(4):
        _step(straight, first, seed)

    second = Optimizers(resumed, section)
    for seed in range(2):
        _step(resumed, second, seed)
    state = {name: value.clone() for name, value in second.state().items()}
    third = Optimizers(resumed, section)
    third.load_state(state)
    for seed in range(2, 4):
        _step(resumed, third, seed)
    for (name, one), other in zip(straight.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_muon_keeps_as_much_of_its_direction_as_is_set() -> None:
    model = _model()
    optimizers = Optimizers(model, TrainingSection.model_validate({"muon_momentum": 0.25}))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers.step()
    buffers = [v for name, v in optimizers.state().items() if name.endswith("momentum_buffer")]
    assert buffers
    for buffer in buffers:
        torch.testing.assert_close(buffer, torch.full_like(buffer, 0.75))


def test_vectors_are_not_decayed() -> None:
    section = TrainingSection.model_validate({"weight_decay": 0.5, "learning_rate": 0.1})
    model = _model()
    optimizers = Optimizers(model, section)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step()
    norms = [p for n, p in model.named_parameters() if p.ndim == 1]
    assert norms and all(torch.equal(p, torch.ones_like(p)) for p in norms)
    table = model.model.embed_tokens.weight
    torch.testing.assert_close(table, _model().model.embed_tokens.weight * 0.95)


def test_l1_sets_small_weights_to_zero() -> None:
    section = TrainingSection.model_validate(
        {"l1": 2.0, "optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.0}
    )
    model = _model()
    before = model.model.layers[0].mlp.up_proj.weight.detach().clone()  # type: ignore[union-attr]
    optimizers = Optimizers(model, section)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step()
    after = model.model.layers[0].mlp.up_proj.weight.detach()  # type: ignore[union-attr]
    wanted = before.sign() * (before.abs() - 0.02).clamp(min=0)
    torch.testing.assert_close(after, wanted)
    assert (after == 0).any()
