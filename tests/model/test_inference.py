"""The model arranged for writing computes what the trained one does."""

from typing import Any

import pytest
import torch
from torch import Tensor

from chatgpt_cli.model import inference
from chatgpt_cli.model.inference import InferenceModel
from chatgpt_cli.model.packed_linear import Int4Linear, Int8Linear, pack_linear
from chatgpt_cli.model.transformer import Transformer
from tests.model.test_transformer import CHOICES, build, tokens

# As other families have them: biases in some matrices only, rotations stretched.
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {"qk_norm": False, "bias": "qkv", "num_kv_heads": 2},
    "qwen3 with biases": {"bias": "attention"},
    "llama with biases in the MLP": {"qk_norm": False, "bias": "mlp"},
    "llama with all biases": {"qk_norm": False, "bias": True},
    "linear": {"rope_scaling": {"kind": "linear", "factor": 4.0}},
    "llama3": {"rope_scaling": {"kind": "llama3", "factor": 8.0, "original_context": 6}},
    "yarn": {"rope_scaling": {"kind": "yarn", "factor": 4.0, "original_context": 6,
                              "attention_factor": 1.2}},
}  # fmt: skip
CHOSEN = {name: one for name, one in CHOICES.items() if one.get("causal", True)} | FAMILIES


def begin(model: InferenceModel, rows: int, slots: int) -> Any:
    cache = model.new_cache()
    cache.reserve(rows, slots)
    cache.lengths = [0] * rows
    return cache


def logits_of(model: Transformer, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model.logits(model(ids))


@pytest.mark.parametrize("chunk", [512, 3])
@pytest.mark.parametrize("name", CHOSEN)
def test_rows_of_unequal_length(
    name: str, chunk: int, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "_CHUNK", chunk)
    trained = build(**CHOSEN[name])
    model = InferenceModel(trained, library=library)
    ids, lengths = tokens(3, 12), [3, 7, 5]
    expected = logits_of(trained, ids)
    cache = begin(model, 3, 11)
    first = model.prefill(cache, 0, [ids[row, :n].tolist() for row, n in enumerate(lengths)])
    for row, length in enumerate(lengths):
        torch.testing.assert_close(first[row], expected[row, length - 1], atol=2e-5, rtol=1e-4)
    for step in range(4):
        now = model.decode(cache, [int(ids[row, n + step]) for row, n in enumerate(lengths)]).logits
        for row, length in enumerate(lengths):
            torch.testing.assert_close(now[row], expected[row, length + step], atol=2e-5, rtol=1e-4)
    # Row 0 leaves, row 2 takes its place; another begins with the first tokens of row 1.
    saved = cache.save(1, 6)
    cache.remove(0)
    cache.lengths.append(0)
    cache.restore(2, saved, 6)
    assert cache.lengths == [5 + 4, 7 + 4, 6]
    again = model.prefill(cache, 2, [ids[1, 6:9].tolist()])
    torch.testing.assert_close(again[0], expected[1, 8], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CHOSEN)
def test_token_by_token(name: str, library: Any) -> None:
    trained = build(**CHOSEN[name])
    model = InferenceModel(trained, library=library)
    assert (model.native is None) == (library is None)
    ids = tokens(2, 8)
    expected = logits_of(trained, ids)
    cache = begin(model, 2, 8)
    model.prefill(cache, 0, ids[:, :1].tolist())
    for position in range(1, 8):
        now = model.decode(cache, ids[:, position].tolist()).logits
        torch.testing.assert_close(now, expected[:, position], atol=2e-5, rtol=1e-4)


def test_bfloat16_stays_close(library: Any) -> None:
    trained = build().to(torch.bfloat16)
    model = InferenceModel(trained, library=library)
    ids = tokens(2, 8)
    cache = begin(model, 2, 9)
    now = model.prefill(cache, 0, ids.tolist())
    exact = logits_of(trained.float(), ids)[:, -1]
    torch.testing.assert_close(now, exact, atol=0.05 * float(exact.abs().max()), rtol=0)


def test_a_bidirectional_model_is_refused() -> None:
    with pytest.raises(ValueError, match="causal"):
        InferenceModel(build(**CHOICES["bert"]))


@pytest.mark.parametrize("rows", [1, 3, 70])
@pytest.mark.parametrize(("quantization", "error"), [("int8", 0.01), ("int4", 0.12)])
def test_quantized_products(rows: int, quantization: Any, error: float) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 64, generator=generator)
    bias = torch.randn(48, generator=generator)
    x = torch.randn(2, rows, 64, generator=generator)
    exact = torch.nn.functional.linear(x, weight, bias)
    packed = pack_linear(weight, bias, quantization)
    assert isinstance(packed, Int8Linear if quantization == "int8" else Int4Linear)
    assert float((packed(x) - exact).norm() / exact.norm()) < error


def test_few_and_many_rows_use_the_same_numbers() -> None:
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(1))
    x = torch.randn(100, 64, generator=torch.Generator().manual_seed(2))
    for quantization in ("int8", "int4"):
        packed = pack_linear(weight, None, quantization)  # type: ignore[arg-type]
        one_by_one = torch.cat([packed(row[None]) for row in x])
        torch.testing.assert_close(packed(x), one_by_one, atol=0.1, rtol=0.02)


def test_a_matrix_without_whole_groups_takes_8_bits() -> None:
    assert isinstance(pack_linear(torch.randn(16, 40), None, "int4"), Int8Linear)


def test_what_does_not_depend_on_a_scale_is_exact_in_four_bits() -> None:
    """Sixteen evenly spaced values with scale 1 survive."""
    weight = (torch.arange(64) % 16 - 8).float().repeat(16, 1)
    packed = pack_linear(weight, None, "int4")
    assert isinstance(packed, Int4Linear)
    torch.testing.assert_close(packed.expanded().float(), weight)
    torch.testing.assert_close(packed(torch.eye(64)), weight.T)
