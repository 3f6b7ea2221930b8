"""A project whose training takes a second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import ENGLISH, small_text
from tests.faults.commands import succeed

_TRAINING = """
  budget: 60 steps
  batch_size: 4
  micro_batch_size: 3
  eval_every: 10
  save_every: 5
  log_every: 1
  early_stopping: 0"""
_CONFIG = f"""
run_dir: run
hardware: {{precision: float32, compile: false, threads: 1}}
tokenizer: {{vocab_size: 400}}
data:
  sources: [{{path: text.txt, separator: "\\n\\n"}}]
  validation_fraction: 0.1
model:
  preset: nano
  hidden_size: 32
  num_layers: 2
  num_heads: 2
  context_length: 32
  dropout: 0.1
pretrain:{_TRAINING}
finetune:{_TRAINING}
  data: [rows.jsonl]
evaluate:
  tasks:
    - {{name: say, data: rows.jsonl, metrics: [exact_match], max_tokens: 4}}
  max_rows: 8
"""


def write_project(folder: Path) -> Path:
    """Text, rows and a chatgpt.yaml in a folder that can be copied."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text("\n\n".join(small_text(400)), encoding="utf-8")
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Say {word} {n}"},
                {"role": "assistant", "content": f"{word} {word}"},
            ]
        }
        for n in range(12)
        for word in ENGLISH
    ]
    lines = [json.dumps(row) for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "chatgpt.yaml").write_text(_CONFIG, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with preprocessed text and a base model, to be copied and not changed."""
    folder = write_project(tmp_path_factory.mktemp("prepared"))
    succeed(folder, "preprocess")
    succeed(folder, "pretrain")
    return folder
