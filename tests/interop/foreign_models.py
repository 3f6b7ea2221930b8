"""Small models with random weights, made by transformers, with tokenizers of their own."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tests.conftest import small_text

CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SCALING = {
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
    "linear": {"rope_type": "linear", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
}

_ROTARY: dict[str, Any] = {
    "vocab_size": 520,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "eos_token_id": 2,
    "bos_token_id": 0,
    "pad_token_id": 0,
}


def _rope(kind: str) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": 5000.0, **SCALING[kind]}}


# Name → model type and what differs from the small one above.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3 with biases": ("qwen3", {"attention_bias": True, "head_dim": 16}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2 with yarn": ("qwen2", _rope("yarn")),
    "llama": ("llama", {}),
    "llama 3": ("llama", {**_rope("llama3"), "tie_word_embeddings": True}),
    "llama stretched": ("llama", _rope("linear")),
    "llama with biases": ("llama", {"attention_bias": True}),
    "llama with all biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "mistral": ("mistral", {"head_dim": 16}),
    "mistral with a window": ("mistral", {"sliding_window": 64}),
    "gpt2": ("gpt2", {}),
}


def make_model(name: str) -> Any:
    """A transformers model of a family, the same each time."""
    kind, changes = FAMILIES[name]
    values: dict[str, Any] = {**_ROTARY, **changes}
    if kind == "gpt2":
        values = {
            "vocab_size": 520, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 256,
            "initializer_range": 0.3, "eos_token_id": 2, "bos_token_id": 0,
        }  # fmt: skip
    config = transformers.AutoConfig.for_model(kind, **values)
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # zero in a new model
            parameter.data.normal_(std=0.3)
    return model


def byte_level() -> Tokenizer:
    """A byte-level BPE of 520 tokens, as Qwen, Llama 3, GPT-2 and SmolLM have."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=520,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(small_text(300), trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def save_tokenizer(folder: Path, *, template: str | None = CHATML) -> None:
    """The tokenizer's files, as transformers writes them."""
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_level(),
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[0],
        unk_token=SPECIAL[0],
    )
    fast.chat_template = template
    fast.save_pretrained(folder)


def make_folder(folder: Path, name: str, **saving: Any) -> Any:
    """A whole model folder; the model that lies there."""
    model = make_model(name)
    model.save_pretrained(folder, **saving)
    save_tokenizer(folder)
    return model


def mixed_strings(count: int, seed: int = 0) -> list[str]:
    """English, Chinese, emoji, code, odd spaces."""
    r = random.Random(seed)
    parts = [
        "the cat", " the", "  two", "\n", "\t", "小明", "风筝。", "，", "🙂", "👩\u200d👧",
        "é", "e\u0301",
        "def f(x):\n    return x[0] ** 2", "12345", "3.14", "don't", "I'm", "Ünïcode", "…", "\r\n",
        "://", "<b>", "{{", "}}", "한국어", "日本語", "\u00a0", "\u200b", "A" * 20, "_", "%", "\\n",
    ]  # fmt: skip
    return ["".join(r.choices(parts, k=r.randint(0, 12))) for _ in range(count)]
