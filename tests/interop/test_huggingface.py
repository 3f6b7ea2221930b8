"""Saved folders: the same numbers in transformers, the same weights back, damage found."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from chatgpt_cli.errors import ModelError
from chatgpt_cli.interop.architectures import has_counterpart
from chatgpt_cli.interop.huggingface import load_model, save_model
from chatgpt_cli.model.positions import sinusoidal_table
from chatgpt_cli.model.transformer import Transformer
from tests.model.test_transformer import CHOICES, build

VOCAB = 300

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("qwen3", {"num_kv_heads": 2, "head_dim": 10}),
    "qwen3 untied": ("qwen3", {"tie_embeddings": False, "rope_theta": 1234.0}),
    "llama": ("llama", CHOICES["llama"] | {"num_kv_heads": 2, "tie_embeddings": False}),
    "llama with biases": ("llama", CHOICES["llama"] | {"bias": True}),
    "gpt2": ("gpt2", CHOICES["gpt2"]),
    "gpt2 untied": ("gpt2", CHOICES["gpt2"] | {"tie_embeddings": False}),
    "article": ("gpt2", CHOICES["article"]),
    "modernbert": ("modernbert", CHOICES["bert"]),
    "modernbert with biases": ("modernbert", CHOICES["bert"] | {"bias": True}),
    "modernbert untied": ("modernbert", CHOICES["bert"] | {"tie_embeddings": False}),
}


def spread(model: Transformer) -> Transformer:
    """Weights of a size at which rounding is that of a trained model."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data *= 0.3
    return model


def saved(folder: Path, tokenizer: Any, **choices: Any) -> Transformer:
    model = spread(build(**{"vocab_size": VOCAB, "norm_eps": 1e-5, **choices}))
    save_model(model, tokenizer, folder)
    return model


def tokens() -> torch.Tensor:
    return torch.randint(0, VOCAB, (2, 20), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_in_transformers(name: str, tmp_path: Path, tokenizer: Any) -> None:
    kind, choices = FAMILIES[name]
    model = saved(tmp_path, tokenizer, **choices)
    assert has_counterpart(model.config) == kind
    auto = (
        transformers.AutoModelForCausalLM
        if model.config.causal
        else transformers.AutoModelForMaskedLM
    )
    theirs, info = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert theirs.config.model_type == kind
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    with torch.no_grad():
        logits = theirs.eval()(tokens()).logits
        torch.testing.assert_close(model.logits(model(tokens())), logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [*FAMILIES, "no counterpart"])
def test_round_trip(name: str, tmp_path: Path, tokenizer: Any) -> None:
    choices = FAMILIES[name][1] if name in FAMILIES else CHOICES["odd"]
    model = saved(tmp_path, tokenizer, **choices)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    assert not loaded.model.training
    for (key, a), (other, b) in zip(
        model.named_parameters(), loaded.model.named_parameters(), strict=True
    ):
        assert key == other and torch.equal(a, b)
    ids = tokens()
    assert torch.equal(model(ids), loaded.model(ids))
    half = load_model(tmp_path, dtype=torch.bfloat16).model
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["qwen3", "article", "modernbert"])
def test_a_folder_that_transformers_wrote_comes_back(
    name: str, tmp_path: Path, tokenizer: Any
) -> None:
    model = saved(tmp_path / "ours", tokenizer, **FAMILIES[name][1])
    auto = transformers.AutoModelForCausalLM if model.config.causal else (
        transformers.AutoModelForMaskedLM
    )  # fmt: skip
    theirs = auto.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    loaded = load_model(tmp_path / "theirs")
    assert loaded.config == model.config
    assert torch.equal(model(tokens()), loaded.model(tokens()))


def test_sinusoidal_table_is_saved_and_a_trained_one_is_kept(
    tmp_path: Path, tokenizer: Any
) -> None:
    model = saved(tmp_path, tokenizer, **CHOICES["article"])
    weights = load_file(tmp_path / "model.safetensors")
    hidden = model.config.hidden_size
    torch.testing.assert_close(
        weights["transformer.wpe.weight"], sinusoidal_table(24, hidden) / hidden**0.5
    )
    weights["transformer.wpe.weight"][3] += 0.1
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = load_model(tmp_path)
    assert loaded.config.positions == "learned"
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.model.logits(loaded.model(tokens())), theirs(tokens()).logits, atol=1e-4,
            rtol=1e-4,
        )  # fmt: skip


def test_special_ids_and_type_are_written(tmp_path: Path, tokenizer: Any) -> None:
    saved(tmp_path, tokenizer)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    ids = {key: config[f"{key}_token_id"] for key in ("pad", "bos", "eos")}
    assert ids == {"pad": 0, "bos": 2, "eos": 3}
    assert config["dtype"] == "float32"
    generation = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert generation.eos_token_id == [11, 3]
    assert generation.pad_token_id == 0


def test_which_choices_have_no_counterpart() -> None:
    for choices in (
        {"bias": True},
        {"mlp": "geglu"},
        {"positions": "learned"},
        {"norm": "layernorm"},
        {"causal": False},
        CHOICES["gpt2"] | {"bias": False},
        CHOICES["gpt2"] | {"num_kv_heads": 2},
        CHOICES["bert"] | {"positions": "learned"},
        CHOICES["bert"] | {"qk_norm": True},
    ):
        assert has_counterpart(build(**choices).config) is None, choices


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _garbage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not a safetensors file")


def _empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def _missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["chatgpt_cli"] |= values
    path.write_text(json.dumps(config), encoding="utf-8")


def _other_width(folder: Path) -> None:
    _change(folder, hidden_size=64)


def _fewer_layers(folder: Path) -> None:
    _change(folder, num_layers=1)


def _bad_value(folder: Path) -> None:
    _change(folder, norm="batchnorm")


def _broken_json(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ', encoding="utf-8")


def _foreign(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "mamba"}', encoding="utf-8")


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "file", "words"),
    [
        (_cut, "model.safetensors", "cannot be read"),
        (_garbage, "model.safetensors", "cannot be read"),
        (_empty, "model.safetensors", "cannot be read"),
        (_missing, "model.safetensors", "missing"),
        (_other_width, "model.safetensors", "do not fit config.json"),
        (_fewer_layers, "model.safetensors", "is unknown and 8 more"),
        (_bad_value, "config.json", "chatgpt_cli.norm"),
        (_broken_json, "config.json", "JSON"),
        (_foreign, "config.json", "'mamba'"),
        (_no_config, "", "no config.json"),
    ],
)
def test_damage_is_named_with_its_file(
    damage: Any, file: str, words: str, tmp_path: Path, tokenizer: Any
) -> None:
    saved(tmp_path, tokenizer)
    damage(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path)
    assert words in caught.value.fact
    assert caught.value.place is not None and caught.value.place.endswith(file or tmp_path.name)


@pytest.mark.parametrize("name", ["gpt2", "modernbert"])
def test_fused_tensors_of_a_wrong_size_are_found(name: str, tmp_path: Path, tokenizer: Any) -> None:
    saved(tmp_path, tokenizer, **FAMILIES[name][1])
    _change(tmp_path, hidden_size=64, head_dim=16)
    with pytest.raises(ModelError, match="do not fit"):
        load_model(tmp_path)


def test_model_smaller_than_its_tokenizer(tmp_path: Path, tokenizer: Any) -> None:
    saved(tmp_path, tokenizer, vocab_size=20)
    with pytest.raises(ModelError, match="the model only 20"):
        load_model(tmp_path)
