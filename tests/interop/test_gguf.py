"""GGUF files: what is written is read again, and llama.cpp says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chatgpt_cli.config.schema import TokenizerSection
from chatgpt_cli.errors import ModelError
from chatgpt_cli.interop.gguf_reader import open_gguf
from chatgpt_cli.interop.gguf_writer import write_gguf
from chatgpt_cli.interop.huggingface import LoadedModel, load_model
from chatgpt_cli.tokenizer.chat import Message, render
from chatgpt_cli.tokenizer.train import train_tokenizer
from tests.conftest import small_text
from tests.interop.foreign_models import make_folder, mixed_strings
from tests.interop.test_huggingface import spread
from tests.model.test_transformer import CHOICES, build

gguf = pytest.importorskip("gguf")

SHAPES: dict[str, dict[str, Any]] = {
    "qwen3": {"num_kv_heads": 2},
    "llama": CHOICES["llama"] | {"num_kv_heads": 2, "tie_embeddings": False},
    "gpt2": CHOICES["gpt2"],
    "article": CHOICES["article"],
}


def own_model(name: str, kind: str = "bpe") -> LoadedModel:
    section = TokenizerSection.model_validate({"type": kind, "vocab_size": 400})
    tokenizer = train_tokenizer(small_text(300), section)
    model = spread(build(**{"vocab_size": tokenizer.vocab_size, "norm_eps": 1e-5, **SHAPES[name]}))
    return LoadedModel(model.eval(), tokenizer, model.config)


def logits(loaded: LoadedModel) -> torch.Tensor:
    ids = torch.randint(12, 390, (2, 20), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return loaded.model.logits(loaded.model(ids))


@pytest.mark.parametrize("name", SHAPES)
def test_own_models_come_back(name: str, tmp_path: Path) -> None:
    loaded = own_model(name)
    write_gguf(loaded, tmp_path / "a.gguf", quantization="f32", name="a")
    again = load_model(tmp_path / "a.gguf")
    torch.testing.assert_close(logits(again), logits(loaded), atol=1e-4, rtol=1e-4)
    write_gguf(loaded, tmp_path / "b.gguf", quantization="f16", name="b")
    half = logits(load_model(tmp_path / "b.gguf"))
    torch.testing.assert_close(half, logits(loaded), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", ["qwen3", "qwen2", "llama 3", "llama stretched", "gpt2"])
def test_foreign_models_come_back(name: str, tmp_path: Path) -> None:
    make_folder(tmp_path / "folder", name)
    loaded = load_model(tmp_path / "folder")
    if name == "llama 3":  # the only parameters that a file's factors are recognised by
        scaling = loaded.config.rope_scaling
        assert scaling is not None
        shape = loaded.config.model_copy(
            update={
                "rope_theta": 500_000.0,
                "rope_scaling": scaling.model_copy(update={"original_context": 8192}),
            }
        )
        loaded = load_model(tmp_path / "folder", config=shape)
    write_gguf(loaded, tmp_path / "a.gguf", quantization="f32", name="a")
    again = load_model(tmp_path / "a.gguf")
    torch.testing.assert_close(logits(again), logits(loaded), atol=1e-4, rtol=1e-4)
    for text in mixed_strings(200):
        assert again.tokenizer.encode(text) == loaded.tokenizer.encode(text), text
    messages = [Message("user", "the cat"), Message("assistant", "a dog")]
    for prompt in (True, False):
        ids = [
            render(messages, one.tokenizer, add_generation_prompt=prompt).ids
            for one in (loaded, again)
        ]
        assert ids[0] == ids[1]
    assert again.tokenizer.stop_ids == loaded.tokenizer.stop_ids


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_own_tokenizers_come_back(kind: str, tmp_path: Path) -> None:
    loaded = own_model("qwen3", kind)
    write_gguf(loaded, tmp_path / "a.gguf", quantization="f16", name="a")
    again = load_model(tmp_path / "a.gguf").tokenizer
    for text in mixed_strings(300):
        assert again.encode(text) == loaded.tokenizer.encode(text), text
    messages = [Message("user", "the cat"), Message("assistant", "a 小明")]
    ours, theirs = (render(messages, one) for one in (loaded.tokenizer, again))
    assert ours == theirs
    prompts = [
        render(messages, one, add_generation_prompt=True) for one in (again, loaded.tokenizer)
    ]
    assert prompts[0].ids == prompts[1].ids
    assert again.stop_ids == loaded.tokenizer.stop_ids
    assert again.beginning("the") == loaded.tokenizer.beginning("the")


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1", "BF16"])
def test_number_formats_are_read(kind: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    number = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    packed = gguf.quants.quantize(values, number)
    writer.add_tensor("token_embd.weight", packed, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = open_gguf(tmp_path / "a.gguf").tensor("token_embd.weight")
    wanted = gguf.quants.dequantize(packed, number)
    assert torch.equal(read, torch.from_numpy(wanted))


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(ModelError, match="not a readable GGUF file"):
        load_model(tmp_path / "bad.gguf")
    writer = gguf.GGUFWriter(tmp_path / "mamba.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match="'mamba'"):
        load_model(tmp_path / "mamba.gguf")
    loaded = own_model("qwen3")
    odd = loaded.config.model_copy(update={"bias": True})
    with pytest.raises(ModelError, match="no architecture"):
        write_gguf(
            LoadedModel(loaded.model, loaded.tokenizer, odd),
            tmp_path / "odd.gguf",
            quantization="f16",
            name="odd",
        )
    assert not (tmp_path / "odd.gguf").exists()


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("quantization", ["f16", "bf16"])
def test_llama_cpp_continues_the_same(name: str, quantization: Any, tmp_path: Path) -> None:
    """Greedy tokens from the same rounded weights; test-llama-cpp installs what it needs."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="make test-llama-cpp installs it")
    from chatgpt_cli.generation.engine import complete
    from chatgpt_cli.generation.sampling import Sampling

    write_gguf(own_model(name), tmp_path / "a.gguf", quantization=quantization, name="a")
    ours = load_model(tmp_path / "a.gguf")
    room = ours.config.context_length - 4
    theirs = llama_cpp.Llama(str(tmp_path / "a.gguf"), n_ctx=ours.config.context_length,
                             n_threads=1, verbose=False)  # fmt: skip
    prompt = [2, 30, 31, 32]
    wanted = []
    for token in theirs.generate(prompt, temp=0.0):
        wanted.append(token)
        if len(wanted) == min(64, room):
            break
    sampling = Sampling(max_tokens=min(64, room), temperature=0.0)
    (got,) = complete(ours.model, ours.tokenizer, [prompt], sampling, stop_ids=frozenset())
    assert got.ids == wanted
