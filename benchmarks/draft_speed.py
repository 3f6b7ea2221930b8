"""A large model alone, and helped by a small one that guesses ahead.

    python -m benchmarks.draft_speed --config FILE --small RUN [--quick] [--json FILE]

The configuration's run answers rows of its tasks; the small one is another run with the same
tokenizer, say a student distilled from it. The larger one is made as wide and deep as a model
of 100M parameters, with zeros, so that it writes what it wrote before at the cost of such a
model: how often guesses are right is then that of two trained models, and the time is real.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from benchmarks.report import Report, options
from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.evaluation.task_rows import read_task
from chatgpt_cli.generation.engine import Engine
from chatgpt_cli.generation.sampling import Sampling
from chatgpt_cli.interop.huggingface import load_model
from chatgpt_cli.interop.locate import locate_model, locate_named
from chatgpt_cli.model.inference import InferenceModel
from chatgpt_cli.model.native.library import load_library
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.chat import render

_HIDDEN, _LAYERS, _INTERMEDIATE = 768, 12, 2048


def enlarged(model: Transformer) -> Transformer:
    """The same function by a model of about 100M parameters: the rest is zero.

    The norms see the same sum of squares over more dimensions, so their weights shrink.
    """
    config = model.config
    heads = _HIDDEN // config.head_dim
    kv_heads = heads * config.num_kv_heads // config.num_heads
    large = Transformer(
        config.model_copy(
            update={
                "hidden_size": _HIDDEN, "num_layers": _LAYERS, "intermediate_size": _INTERMEDIATE,
                "num_heads": heads, "num_kv_heads": kv_heads,
            }
        )
    )  # fmt: skip
    small = dict(model.named_parameters())
    shrink = (config.hidden_size / _HIDDEN) ** 0.5
    for name, parameter in large.named_parameters():
        nn.init.zeros_(parameter)
        if name in small:
            value = small[name].data
            wide_norm = value.ndim == 1 and value.shape != parameter.shape
            parameter.data[tuple(slice(n) for n in value.shape)] = value * (
                shrink if wide_norm else 1
            )
    return large.eval()


@dataclass
class Contestant:
    """An engine and what it has written."""

    engine: Engine
    texts: list[list[int]] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0

    def write(self, prompt: list[int], sampling: Sampling) -> None:
        """One text; the time counts from its first token on."""
        stop_ids = self.engine.tokenizer.stop_ids
        generation = self.engine.submit(prompt, sampling, stop_ids=stop_ids, follow=False)
        self.engine.step()
        started = time.perf_counter()
        while self.engine.writing:
            self.engine.step()
            self.steps += 1
        self.seconds += time.perf_counter() - started
        self.texts.append(generation.ids)


def main() -> None:
    """Measure and report."""
    parser = options(__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/quickstart.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--small", required=True, help="run directory or model folder")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set).config
    report = Report("draft_speed")
    loaded = load_model(locate_model(RunPaths(config.run_dir), model=None).folder)
    small = load_model(locate_named(arguments.small, "auto"))
    large = enlarged(loaded.model)
    report.figure("large, parameters", large.config.num_parameters())
    report.figure("small, parameters", small.config.num_parameters())
    library = load_library(torch.device("cpu"), build=True)
    packed = InferenceModel(large.to(torch.bfloat16), library=library)
    draft = InferenceModel(small.model.to(torch.bfloat16), library=library)
    limit = 2 if arguments.quick else 10
    prompts = [
        render(row.messages, loaded.tokenizer, add_generation_prompt=True).ids
        for task in config.evaluate.tasks
        for row in read_task(task, limit=limit)
    ]
    for temperature in (0.0, 0.8):
        alone = Contestant(Engine(packed, loaded.tokenizer))
        helped = Contestant(Engine(packed, loaded.tokenizer, draft=draft))
        for number, prompt in enumerate(prompts):
            sampling = Sampling(max_tokens=60, temperature=temperature, top_p=0.95, seed=number)
            alone.write(prompt, sampling)
            helped.write(prompt, sampling)
        at = f"temperature {temperature}"
        tokens = sum(map(len, alone.texts))
        report.figure(f"{at}: tokens/s alone", tokens / alone.seconds)
        report.figure(f"{at}: tokens/s helped", tokens / helped.seconds)
        report.figure(f"{at}: tokens in a step", alone.steps / helped.steps)
        report.target(f"{at}: speed, helped of alone", alone.seconds / helped.seconds, least=1.0)
        report.target(f"{at}: the same texts", float(alone.texts == helped.texts), least=1.0)
    report.write(arguments.json)


if __name__ == "__main__":
    main()
