"""The reference trainer: Hugging Face's `Trainer` on the same model, tokens and batches.

Run as a process of its own, `python -m benchmarks.hugging_face SPEC OUT`, so that its
memory is its own. SPEC is JSON, see `Spec`; OUT receives seconds a step and losses.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    AutoModelForCausalLM,
    Qwen3Config,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.data.loader import HeldOutWindows, TokenWindows
from chatgpt_cli.data.shards import TokenShards
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

# Steps whose time says nothing: compiling, first touches of memory.
_WARM = 4


@dataclass(frozen=True)
class Spec:
    """What to train and how.

    `steps` says for how long, or `seconds`, which a short trial turns into steps.
    """

    model: dict[str, Any]
    run_dir: str
    batch_size: int
    steps: int
    bf16: bool
    compile: bool
    attention: str
    seconds: float = 0.0
    learning_rate: float = 5e-5
    evaluate: bool = False

    @property
    def label(self) -> str:
        """Short name of the setting."""
        kind = "bf16" if self.bf16 else "fp32"
        return f"{kind}, {'compiled' if self.compile else 'eager'}, {self.attention}"


class _Windows(Dataset[dict[str, torch.Tensor]]):
    """The rows of our own batches, one by one."""

    def __init__(self, windows: TokenWindows, steps: int) -> None:
        self._windows = windows
        self._rows = steps * windows.batch_size
        self._last: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        batch, index = divmod(row, self._windows.batch_size)
        if self._last is None or self._last[0] != batch:
            self._last = (batch, self._windows.windows(batch))
        ids = torch.from_numpy(self._last[1][index, :-1].astype(np.int64))
        return {"input_ids": ids, "labels": ids}


class _InOrder(Trainer):
    """Keeps the order of the rows, which are shuffled already."""

    def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler[int]:
        assert isinstance(self.train_dataset, _Windows)
        return torch.utils.data.SequentialSampler(self.train_dataset)


class _Clock(TrainerCallback):
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())

    def seconds_per_step(self) -> list[float]:
        """Of the steps after the warm ones."""
        return [float(s) for s in np.diff(self.ends[_WARM:])]


def build(config: ModelConfig, attention: str) -> Any:
    """A Qwen3 model of the same shape, as transformers initialises it."""
    shape = Qwen3Config(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.context_length,
        tie_word_embeddings=config.tie_embeddings,
        use_cache=False,
    )
    torch.manual_seed(1)
    factory: Any = AutoModelForCausalLM
    return factory.from_config(shape, attn_implementation=attention)


def train(spec: Spec, model: Any, windows: TokenWindows, steps: int) -> _Clock:
    """Train for `steps` optimizer steps, with Trainer's defaults where spec is silent."""
    clock = _Clock()
    # As usual for small models from scratch: a warm-up and a cosine to zero.
    tuned: dict[str, Any] = {}
    if spec.evaluate:
        tuned = {
            "lr_scheduler_type": "cosine",
            "warmup_steps": max(1, steps // 20),
            "weight_decay": 0.1,
            "adam_beta2": 0.95,
        }
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=windows.batch_size,
            max_steps=steps,
            learning_rate=spec.learning_rate,
            use_cpu=not torch.cuda.is_available(),
            bf16=spec.bf16,
            torch_compile=spec.compile,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **tuned,
        )
        _InOrder(
            model=model,
            args=arguments,
            train_dataset=_Windows(windows, steps),
            callbacks=[clock],
        ).train()
    return clock


@torch.inference_mode()
def bits_per_byte(model: Any, spec: Spec) -> float:
    """On the whole validation split, with the same windows as `chatgpt evaluate`."""
    run = Path(spec.run_dir)
    token_bytes = Tokenizer.load(run / "tokenizer").token_bytes
    windows = HeldOutWindows(
        TokenShards.open(run / "data", "validation"),
        batch_size=32,
        sequence_length=spec.model["context_length"],
        max_tokens=None,
    )
    model.eval()
    nats, size = 0.0, 0
    for batch in windows:
        with torch.autocast("cpu", torch.bfloat16, enabled=spec.bf16):
            logits = model(input_ids=batch.input_ids).logits
        labels = batch.labels.flatten()
        nats += torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), labels, ignore_index=-100, reduction="sum"
        ).item()
        size += int(token_bytes[labels[labels >= 0].numpy()].sum())
    return nats / float(np.log(2)) / size


def main(spec: Spec, out: Path) -> None:
    """Train as the spec says and write what was measured."""
    started = time.perf_counter()
    config = ModelConfig.model_validate(spec.model)
    shards = TokenShards.open(Path(spec.run_dir) / "data", "train")
    windows = TokenWindows(
        shards, batch_size=spec.batch_size, sequence_length=config.context_length, seed=1
    )
    model = build(config, spec.attention)
    steps = spec.steps
    if spec.seconds:
        # A schedule needs the number of steps: as many as fit the time that is left
        # once the model is compiled, at the speed of a short trial on a copy.
        trial = train(spec, build(config, spec.attention), windows, _WARM + 60)
        pace = statistics.median(trial.seconds_per_step())
        # The trial itself is not held against it; compiling again comes from the cache.
        started = time.perf_counter()
        steps = int((spec.seconds - 10) / pace)
    clock = train(spec, model, windows, steps)
    trained = time.perf_counter() - started
    content: dict[str, Any] = {
        "setting": spec.label,
        "steps": steps,
        "seconds": trained,
        "seconds_per_step": statistics.median(clock.seconds_per_step()),
        "tokens_per_second": spec.batch_size
        * config.context_length
        / statistics.median(clock.seconds_per_step()),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    if spec.evaluate:
        content["bits_per_byte"] = bits_per_byte(model, spec)
    out.write_text(json.dumps(content), encoding="utf-8")


def write_spec(spec: Spec, path: Path) -> Path:
    """For the other side of the process."""
    path.write_text(json.dumps(asdict(spec)), encoding="utf-8")
    return path


if __name__ == "__main__":
    main(Spec(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), Path(sys.argv[2]))
