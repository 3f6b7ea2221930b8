"""Tokens per second of training, beside Hugging Face's `Trainer`.

Same architecture, size, tokens and batches; each in a process of its own, in turns, so
that a busy moment of the machine hits all of them. Of ours, nothing is set but the
shape, the batch, the number of steps, and that it compiles, as it does by itself in
runs of more than two minutes. Where it then multiplies in 8 bits, it is measured once
more without.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.hugging_face import Spec, write_spec
from benchmarks.process import chatgpt, module, run
from benchmarks.report import Report, options
from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.model import ModelConfig

_CONFIG = """\
run_dir: {run_dir}
tokenizer: {{type: bpe, vocab_size: 4096}}
data:
  sources: [{{path: "sample:pretrain/*.txt", separator: "\\n\\n"}}]
model: {{preset: {preset}, context_length: {context}}}
hardware: {{compile: true}}
pretrain: {{batch_size: {batch}, budget: {steps} steps, eval_every: 1000000, save_every: 1000000}}
"""
_WITHOUT = "ours without products in 8 bits"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--preset", default="small", help="size of the model (default: small)")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    report = Report("train_speed")
    with tempfile.TemporaryDirectory() as folder:
        _measure(report, arguments, Path(folder))
    report.write(arguments.json)


def _measure(report: Report, arguments: Any, folder: Path) -> None:
    quick = arguments.quick
    config = folder / "chatgpt.yaml"
    config.write_text(
        _CONFIG.format(
            run_dir=folder / "run",
            preset=arguments.preset,
            context=arguments.context,
            batch=arguments.batch,
            steps=40 if quick else 80,
        ),
        encoding="utf-8",
    )
    shape = load_config(config, []).config.model.build(vocab_size=4096)
    run(chatgpt("preprocess", "--config", str(config)), log=folder / "log")
    report.figure("parameters", shape.num_parameters())
    best = [
        Spec(**_common(shape, arguments, folder), steps=24, bf16=True, compile=True, attention=a)
        for a in (["eager"] if quick else ["eager", "sdpa"])
    ]
    default = Spec(
        **_common(shape, arguments, folder),
        steps=10 if quick else 16,
        bf16=False,
        compile=False,
        attention="sdpa",
    )
    speeds: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    peaks: list[float] = []
    for _ in range(1 if quick else arguments.rounds):
        peaks.append(_peak(folder))
        _ours("ours", config, folder, speeds, memory)
        _ours(_WITHOUT, config, folder, speeds, memory, "hardware.int8_training=false")
        for spec in (default, *best):
            _theirs(spec, folder, speeds, memory)
        peaks.append(_peak(folder))
    _summarise(report, shape, speeds, memory, statistics.median(peaks), default, best)


def _common(shape: ModelConfig, arguments: Any, folder: Path) -> dict[str, Any]:
    return {
        "model": shape.model_dump(),
        "run_dir": str(folder / "run"),
        "batch_size": arguments.batch,
    }


def _peak(folder: Path) -> float:
    return float(run(module("matmul_peak"), log=folder / "log").output)


def _ours(
    name: str,
    config: Path,
    folder: Path,
    speeds: dict[str, list[float]],
    memory: dict[str, list[float]],
    *settings: str,
) -> None:
    changed = [text for setting in settings for text in ("--set", setting)]
    command = chatgpt("pretrain", "--config", str(config), "--restart", *changed)
    done = run(command, log=folder / "log")
    lines = (folder / "run/pretrain/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    logged = [r for r in map(json.loads, lines) if r["type"] == "train"]
    # The first window holds the compilation.
    speeds.setdefault(name, []).append(
        statistics.median(r["tokens_per_second"] for r in logged[1:])
    )
    memory.setdefault(name, []).append(done.peak_mb)


def _theirs(
    spec: Spec, folder: Path, speeds: dict[str, list[float]], memory: dict[str, list[float]]
) -> None:
    path = write_spec(spec, folder / "spec.json")
    done = run(module("hugging_face", str(path), str(folder / "out.json")), log=folder / "log")
    measured = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    speeds.setdefault(spec.label, []).append(measured["tokens_per_second"])
    memory.setdefault(spec.label, []).append(done.peak_mb)


def _summarise(
    report: Report,
    shape: ModelConfig,
    speeds: dict[str, list[float]],
    memory: dict[str, list[float]],
    peak: float,
    default: Spec,
    best: list[Spec],
) -> None:
    speed = {name: statistics.median(values) for name, values in speeds.items()}
    report.figure("bf16 matmul peak, GFLOP/s", peak / 1e9)
    for name in speeds:
        who = name if name.startswith("ours") else f"Hugging Face Trainer ({name})"
        report.figure(f"{who}, tokens/s", speed[name])
        report.figure(f"{who}, tokens/s of each round", [round(v) for v in speeds[name]])
        report.figure(f"{who}, peak memory, MB", statistics.median(memory[name]))
    their_best = max((spec.label for spec in best), key=lambda name: speed[name])
    share = speed["ours"] * shape.flops_per_token() / peak
    without = speed[_WITHOUT] * shape.flops_per_token() / peak
    report.figure("share of the matmul peak without products in 8 bits", without)
    report.target("against its default", speed["ours"] / speed[default.label], least=3.3)
    report.target("against its best setting", speed["ours"] / speed[their_best], least=1.25)
    report.target("share of the matmul peak", share, least=0.6)
    their_memory = min(statistics.median(memory[s.label]) for s in (default, *best))
    report.target(
        "peak memory against its least", statistics.median(memory["ours"]) / their_memory, most=1.0
    )


if __name__ == "__main__":
    main()
