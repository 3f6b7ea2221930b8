"""Quantized folders: as small as they should be, computed alike everywhere, read by others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from chatgpt_cli.errors import ModelError
from chatgpt_cli.interop.compressed import _pack, _unpack
from chatgpt_cli.interop.huggingface import load_model, save_model
from chatgpt_cli.interop.quantization import write_quantized
from chatgpt_cli.model.inference import InferenceModel
from chatgpt_cli.model.lora import Adapter, add_adapter, merge_adapter
from chatgpt_cli.model.quantized import Bits, QuantizedWeight, expand, quantized_weights
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from tests.model.test_transformer import build

SHAPE = {"vocab_size": 400, "hidden_size": 64, "intermediate_size": 96}


@pytest.fixture(scope="module", params=[True, False], ids=["qwen3", "llama"])
def source(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer
) -> Path:
    folder = tmp_path_factory.mktemp("source") / "model"
    save_model(build(**SHAPE, qk_norm=request.param), tokenizer, folder)
    return folder


def ids() -> torch.Tensor:
    return torch.randint(12, 400, (2, 12), generator=torch.Generator().manual_seed(2))


def logits(model: Transformer) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(model(ids()))


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The difference as a share of the size."""
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize(("bits", "error"), [(8, 1 / 254), (4, 1 / 8)])
def test_no_weight_moves_far(bits: Bits, error: float) -> None:
    weight = torch.randn(48, 64, generator=torch.Generator().manual_seed(1))
    weight[3] = 0
    weight[5, :32] = -weight[5, :32].abs()
    found = QuantizedWeight.of(weight, bits)
    groups = weight.view(48, found.scale.shape[1], -1)
    moved = (found.expanded() - weight).view(groups.shape).abs().amax(2)
    # Half a step; in 4 bits a whole one on the side that has a number less.
    # bfloat16 scales have 8 digits: what is largest may miss its number by 1 / 256.
    assert (moved <= groups.abs().amax(2) * (error + 1 / 256)).all()
    assert not found.expanded()[3].any()


@pytest.mark.parametrize("bits", [8, 4])
def test_packing_is_reversible(bits: Bits) -> None:
    low, high = (-127, 128) if bits == 8 else (-8, 8)
    numbers = torch.randint(low, high, (5, 37), generator=torch.Generator().manual_seed(1))
    packed = _pack(numbers.to(torch.int8), bits)
    assert packed.shape == (5, -(-37 * bits // 32)) and packed.dtype == torch.int32
    assert torch.equal(_unpack(packed, bits, 5, 37), numbers.to(torch.int8))


@pytest.mark.parametrize("bits", [8, 4])
def test_a_written_folder_computes_what_was_rounded(
    source: Path, bits: Bits, tmp_path: Path
) -> None:
    before, after = write_quantized(source, tmp_path / "small", bits)
    rounded = quantized_weights(load_model(tmp_path / "small").model)
    inside = sum(weight.numbers.numel() for weight in rounded.values())
    assert after < before - inside * (4 - bits / 8 - 1 / 8)
    original, small = load_model(source).model, load_model(tmp_path / "small").model
    assert 0 < apart(logits(small), logits(original)) < (0.1 if bits == 8 else 0.6)
    # Written for one token at a time, with the kernels' own order.
    writing = InferenceModel(small)
    cache = writing.new_cache()
    cache.reserve(2, 12)
    cache.lengths = [0, 0]
    found = writing.prefill(cache, 0, ids().tolist())
    expand(small)
    assert not quantized_weights(small)
    # Products are of bfloat16, and the output matrix has 8 bits there.
    assert apart(found, logits(small)[:, -1]) < 0.05


@pytest.mark.parametrize("bits", [8, 4])
def test_transformers_reads_it(source: Path, bits: Bits, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    from transformers import AutoModelForCausalLM

    write_quantized(source, tmp_path / "small", bits)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "small", dtype=torch.float32).eval()
    ours = load_model(tmp_path / "small").model
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids()).logits, logits(ours), atol=1e-3, rtol=1e-3)


def test_an_adapter_beside_whole_numbers(source: Path, tmp_path: Path) -> None:
    write_quantized(source, tmp_path / "small", 4)
    model = load_model(tmp_path / "small").model
    before = logits(model)
    add_adapter(model, Adapter(4, 8.0, 0.0, ("q_proj", "down_proj"), "somewhere"), seed=1)
    assert torch.equal(logits(model), before)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (".lora_" in name)
        if name.endswith("lora_B"):
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    beside = logits(model)
    assert not torch.allclose(beside, before)
    merge_adapter(model)
    torch.testing.assert_close(logits(model), beside, atol=1e-4, rtol=1e-4)


def test_what_cannot_be_written_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    save_model(build(vocab_size=400, hidden_size=40), tokenizer, tmp_path / "narrow")
    with pytest.raises(ModelError, match="40 inputs do not divide into groups of 32"):
        write_quantized(tmp_path / "narrow", tmp_path / "small", 4)
    assert not (tmp_path / "small").exists()
