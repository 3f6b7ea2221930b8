"""A trained run without the training: a small tokenizer and a model with scripted weights."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import yaml

from chatgpt_cli.checkpoints import Progress
from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.own import OwnTokenizer
from chatgpt_cli.tokenizer.special import SPECIAL_TOKENS
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.checkpoint import random_state, save_checkpoint
from chatgpt_cli.training.metrics_log import Mark

TEXT = ["the cat sat on the mat", "the dog saw the sun", "a cat and a dog ran", "天空是蓝色的"]


def make_tokenizer() -> Tokenizer:
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 20), model_writer=stream, vocab_size=300,
        model_type="bpe", byte_fallback=True, hard_vocab_limit=False, minloglevel=2,
        normalization_rule_name="identity", add_dummy_prefix=False,
        remove_extra_whitespaces=False, num_threads=1,
        pad_id=0, unk_id=1, bos_id=2, eos_id=3, pad_piece="[PAD]", unk_piece="[UNK]",
        bos_piece="[BOS]", eos_piece="[EOS]", control_symbols=list(SPECIAL_TOKENS[4:]),
    )  # fmt: skip
    return OwnTokenizer(stream.getvalue())


def make_run(
    root: Path, stage: str = "finetune", says: str = "cat", *, ends: bool = True, **choices: Any
) -> Path:
    """Write a run whose model, from whatever token, goes on with `says`.

    Then comes <|end|>, or the same again.

    With identity blocks a model's next token depends on the last one only, so an
    untied output matrix can hold any such table. Returns the YAML file.
    """
    tokenizer = make_tokenizer()
    vocab = tokenizer.vocab_size
    shape: dict[str, Any] = {
        "vocab_size": vocab, "hidden_size": vocab + vocab % 2, "num_layers": 1, "num_heads": 2,
        "num_kv_heads": 2, "head_dim": 4, "intermediate_size": 8, "context_length": 48,
        "tie_embeddings": False,
    }  # fmt: skip
    model = Transformer(ModelConfig(**{**shape, **choices}))
    model.initialize(0)
    spoken = tokenizer.encode(says)
    chain = [*spoken, 11 if ends else spoken[0]]
    following = dict(pairwise(chain))
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(vocab, model.config.hidden_size))
        output = model.output_weight.zero_()
        for token in range(vocab):
            output[following.get(token, chain[0]), token] = 5.0
    return save_run(root, stage, model, tokenizer)


def make_wandering_run(root: Path, **choices: Any) -> Path:
    """A run whose model has random weights: what it writes depends on all it has read."""
    tokenizer = make_tokenizer()
    shape: dict[str, Any] = {
        "vocab_size": tokenizer.vocab_size, "hidden_size": 64, "num_layers": 2, "num_heads": 4,
        "num_kv_heads": 2, "head_dim": 32, "intermediate_size": 96, "context_length": 256,
    }  # fmt: skip
    model = Transformer(ModelConfig(**{**shape, **choices}))
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        else:
            parameter.data.fill_(1.0)
    return save_run(root, "finetune", model, tokenizer)


def save_run(root: Path, stage: str, model: Transformer, tokenizer: Tokenizer) -> Path:
    """Write a run with this model; returns the YAML file."""
    save_checkpoint(
        StagePaths(root / stage), model=model, tokenizer=tokenizer, progress=Progress(step=1),
        fingerprint={}, settings={}, metrics=Mark(), optimizer={}, rng=[random_state()],
    )  # fmt: skip
    config = root / "chatgpt.yaml"
    values = {"run_dir": str(root), "hardware": {"precision": "float32"},
              "generate": {"temperature": 0, "sample_prompts": ["one", "two"]}}  # fmt: skip
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    return config
