"""A project that starts from another model's folder, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from chatgpt_cli.cli.main import main
from chatgpt_cli.config.loader import dump_config, load_config
from chatgpt_cli.errors import ConfigError
from tests.interop.foreign_models import make_folder


def start(project: Path, name: str) -> list[str]:
    """A configuration that starts from a small sharded model; the options that name it."""
    make_folder(project / "base", name, max_shard_size="60KB")
    path = project / "chatgpt.yaml"
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("model:")]
    lines.append(f"model: {{from: {project / 'base'}, context_length: 128}}")
    path.write_text("\n".join(lines), encoding="utf-8")
    return ["--config", str(path)]


@pytest.mark.parametrize("name", ["llama 3", "qwen3"])
def test_train_and_open_again_in_transformers(
    name: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = start(project, name)
    assert main(["preprocess", *options]) == 0
    assert main(["pretrain", *options]) == 0
    assert main(["finetune", *options]) == 0
    capsys.readouterr()
    assert main(["evaluate", *options, "--json", "--max-rows", "4"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["held_out"]["data"] == "held-out answers"
    assert main(["generate", *options, "Say cat", "--max-tokens", "4"]) == 0
    folder = next((project / "run" / "finetune" / "checkpoints").glob("step-*"))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.model_type == name.split()[0]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)


def test_adapter_from_training_to_export(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = start(project, "llama")
    adapter = ["--set", "finetune.lora={rank: 2}"]
    assert main(["finetune", *options, *adapter, "--set", "finetune.budget=8 steps"]) == 0
    assert main(["finetune", *options, *adapter, "--resume"]) == 0
    assert "are trained" in capsys.readouterr().out
    folder = next((project / "run" / "finetune" / "checkpoints").glob("step-*"))
    assert (folder / "adapter_model.safetensors").exists()
    assert not (folder / "model.safetensors").exists()
    assert main(["generate", *options, "Say cat", "--max-tokens", "4"]) == 0
    merged = project / "merged"
    assert main(["export", *options, "--format", "huggingface", "--to", str(merged)]) == 0
    transformers.AutoModelForCausalLM.from_pretrained(merged)
    assert main(["export", *options, "--quant", "q8_0", "--to", str(project / "a.gguf")]) == 0
    capsys.readouterr()
    gguf = ["--model", str(project / "a.gguf"), "--max-tokens", "4"]
    assert main(["generate", *options, *gguf, "Say cat"]) == 0


def test_defaults_suit_a_model_that_is_trained_already(project: Path) -> None:
    start(project, "llama")
    path = project / "chatgpt.yaml"
    config = load_config(path, []).config
    assert (config.finetune.optimizer, config.finetune.learning_rate) == ("adamw", 5e-5)
    adapted = load_config(path, ["finetune.lora={}"]).config
    assert adapted.finetune.learning_rate == 5e-4
    kept = load_config(path, ["finetune.learning_rate=0.01"]).config
    assert kept.finetune.learning_rate == 0.01
    (project / "again.yaml").write_text(dump_config(adapted), encoding="utf-8")
    assert load_config(project / "again.yaml", []).config == adapted


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.hidden_size=64", "has its own hidden_size"),
        ("model.frm=x", "Did you mean from"),
        ("pretrain.objective=masked", "starts from a causal model"),
        ("finetune={lora: {}, optimizer: muon}", "trains with adamw"),
    ],
)
def test_what_does_not_go_together(override: str, words: str, project: Path) -> None:
    start(project, "llama")
    with pytest.raises(ConfigError, match=words):
        load_config(project / "chatgpt.yaml", [override])


def test_a_longer_context_than_the_model_learnt(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = start(project, "llama")
    assert main(["finetune", *options, "--set", "model.context_length=100000"]) == 2
    assert "has learnt 256" in capsys.readouterr().err


def test_a_model_that_is_not_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--config", str(project / "chatgpt.yaml")]
    assert main(["chat", *options, "--model", "smolm2"]) == 1
    assert "did you mean smollm2" in capsys.readouterr().err
