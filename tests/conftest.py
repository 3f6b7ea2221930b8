"""A small project that tests of several rooms share."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from chatgpt_cli.config.schema import TokenizerSection
from chatgpt_cli.model.native.library import load_library
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.tokenizer.train import train_tokenizer

# The tests read English, whatever the tester's locale; so do the processes they start.
os.environ["CHATGPT_LANG"] = "en"

# The processes they start hear signals, also where the tests run in the background.
for _name, _handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

# How long an example takes says nothing on a busy machine. The same examples every time,
# but where faults are looked for (`make test-faults`).
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("new", deadline=None)
settings.load_profile("same")

ENGLISH = [
    "the",
    "cat",
    "and",
    "dog",
    "saw",
    "a",
    "red",
    "kite",
    "in",
    "our",
    "garden",
    "today",
    "Tom",
]
CHINESE = "小明今天在花园里看见了一只红色的风筝他很高兴"


def small_text(documents: int, seed: int = 0) -> list[str]:
    """Documents of random words in both languages."""
    r = random.Random(seed)
    texts = []
    for _ in range(documents):
        english = " ".join(r.choices(ENGLISH, k=r.randint(5, 25)))
        chinese = "".join(r.choices(CHINESE, k=r.randint(5, 25)))
        texts.append(f"{english}.\n{chinese}。 {r.randint(0, 999)}")
    return texts


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(small_text(300), TokenizerSection(vocab_size=400))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with text, rows and a chatgpt.yaml for a model that trains in seconds."""
    return write_project(tmp_path)


def write_project(tmp_path: Path, *, relative: bool = False) -> Path:
    """The files of `project`; `relative` names them as a user in the folder would."""
    root = f"{tmp_path}/" if not relative else ""
    (tmp_path / "text.txt").write_text("\n\n".join(small_text(400)), encoding="utf-8")
    rows = [
        f'{{"messages": [{{"role": "user", "content": "Say {word} {n}"}}, '
        f'{{"role": "assistant", "content": "{word} {word}"}}]}}'
        for n in range(12)
        for word in ENGLISH
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    pairs = [
        json.dumps(
            {
                "prompt": f"Say {word} {n}",
                "chosen": f"{word} {word}",
                "rejected": f"{ENGLISH[(n + at) % len(ENGLISH)]} no",
            }
        )
        for n in range(5)
        for at, word in enumerate(ENGLISH)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(pairs), encoding="utf-8")
    (tmp_path / "chatgpt.yaml").write_text(
        f"""
run_dir: {root}run
hardware: {{precision: float32, compile: false, threads: 1}}
tokenizer: {{vocab_size: 400}}
data:
  sources: [{{path: {root}text.txt, separator: "\\n\\n"}}]
  validation_fraction: 0.1
model: {{preset: nano, hidden_size: 32, num_layers: 2, num_heads: 2, context_length: 32}}
pretrain: {{budget: 12 steps, batch_size: 4, eval_every: 4, save_every: 4, log_every: 1}}
finetune:
  data: [{root}rows.jsonl]
  budget: 12 steps
  batch_size: 4
  eval_every: 4
  save_every: 4
  log_every: 1
prefer:
  data: [{root}pairs.jsonl]
  budget: 12 steps
  batch_size: 4
  eval_every: 4
  save_every: 4
  log_every: 1
reinforce:
  data: [{root}rows.jsonl]
  reward: pattern
  pattern: '^(\\S+)'
  max_tokens: 6
  budget: 12 steps
  batch_size: 2
  group_size: 4
  learning_rate: 0.003
  eval_every: 4
  save_every: 4
  log_every: 1
evaluate:
  tasks:
    - name: say
      data: {root}rows.jsonl
      metrics: [exact_match, bleu]
      max_tokens: 8
""",
        encoding="utf-8",
    )
    return tmp_path


@pytest.fixture(params=["PyTorch", "compiled"])
def library(request: pytest.FixtureRequest) -> Any:
    """None, or the compiled code, which must compute the same."""
    if request.param == "PyTorch":
        return None
    return load_library(torch.device("cpu"), build=True) or pytest.skip("no C++ compiler")
