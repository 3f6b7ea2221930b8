"""Training with 1, 2 and 4 processes on this machine, beside what `chatgpt plan` would compute.

The plan's arithmetic is given what is measured here: how fast one process computes, and
how fast collectives of PyTorch's Gloo are. It then foretells the steps of 2 and 4
processes with copies (DDP) and with parts (FSDP), which are measured too.

With --processor-time all times are those of the processor, added over the processes, as
if one core did everything: for a machine on which other programs run.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

from benchmarks.report import Report, options
from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.data.preprocess import preprocess
from chatgpt_cli.planning.cluster import Cluster, Method, Work, step_time
from chatgpt_cli.training.distributed import process_group, total
from chatgpt_cli.training.events import StepDone
from chatgpt_cli.training.pretrain import pretrain

_CONFIG = """\
run_dir: {run_dir}
tokenizer: {{type: bpe, vocab_size: 4096}}
data:
  sources: [{{path: "sample:pretrain/*.txt", separator: "\\n\\n"}}]
model: {{preset: {preset}, context_length: 128}}
hardware: {{precision: float32, attention: matmul, compile: false, threads: 1}}
pretrain:
  {{batch_size: {batch}, micro_batch_size: {batch}, budget: {steps} steps, eval_every: 1000000,
   eval_tokens: 128, save_every: 1000000, optimizer: adamw}}
"""
_METHODS: tuple[Method, ...] = ("ddp", "fsdp")
_BYTES = 4_000_000


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--preset", default="tiny", help="size of the model (default: tiny)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--processor-time", action="store_true")
    arguments = parser.parse_args()
    report = Report("scaling")
    with tempfile.TemporaryDirectory() as folder:
        _measure(report, arguments, Path(folder))
    report.write(arguments.json)


def _measure(report: Report, arguments: Any, folder: Path) -> None:
    config_file = folder / "chatgpt.yaml"
    config_file.write_text(
        _CONFIG.format(
            run_dir=folder / "run",
            preset=arguments.preset,
            batch=arguments.batch,
            steps=5 if arguments.quick else 12,
        ),
        encoding="utf-8",
    )
    config = load_config(config_file, []).config
    preprocess(config, RunPaths(config.run_dir), force=False, tell=lambda _: None)
    shape = config.model.build(vocab_size=4096)
    work = Work(shape, arguments.batch, 128, arguments.batch, "adamw", 4, False, 0.0)
    whole = arguments.processor_time
    alone = _run(1, config_file, "ddp", whole)
    cores = 1 if whole else os.cpu_count() or 1
    rate = work.batch_size * work.length * shape.flops_per_token() / alone["step"]
    report.figure("parameters", shape.num_parameters())
    report.figure("step_1_seconds", round(alone["step"], 4))
    for count in (2, 4):
        for method in _METHODS:
            found = _run(count, config_file, method, whole)
            cluster = Cluster(
                1, count, rate * min(1.0, cores / count), rate, float("inf"),
                found["bandwidth"], found["bandwidth"], found["latency"], overlaps=False,
            )  # fmt: skip
            foretold = step_time(work, cluster, method).seconds
            name = f"{method}_{count}"
            report.figure(f"{name}_bandwidth_mb", round(found["bandwidth"] / 1e6))
            report.figure(f"{name}_measured_seconds", round(found["step"], 4))
            report.figure(f"{name}_foretold_seconds", round(foretold, 4))
            report.figure(f"{name}_foretold_share", round(foretold / found["step"], 3))


def _run(count: int, config: Path, method: Method, whole: bool) -> dict[str, float]:
    """Figures of so many processes, each a fresh one; as the first of them tells."""
    result = config.with_name("result.json")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    torch.multiprocessing.spawn(  # type: ignore[attr-defined, no-untyped-call]
        _process, (count, port, str(config), method, whole, str(result)), nprocs=count
    )
    found: dict[str, float] = json.loads(result.read_text(encoding="utf-8"))
    return found


def _process(
    rank: int, count: int, port: int, config: str, method: str, whole: bool, result: str
) -> None:
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    loaded = load_config(Path(config), [f"hardware.parallel={method}"]).config
    clock = time.process_time if whole else time.perf_counter
    times: list[float] = []
    with process_group(timeout=600):
        figures = _collectives(clock, whole) if count > 1 else {}
        pretrain(
            loaded,
            RunPaths(loaded.run_dir),
            mode="restart",
            observe=lambda event: times.append(clock()) if isinstance(event, StepDone) else None,
        )
        steps = [after - before for before, after in itertools.pairwise(times[1:-1])]
        step = statistics.median(steps)
        figures["step"] = total([step])[0] if whole else step
    if rank == 0:
        Path(result).write_text(json.dumps(figures), encoding="utf-8")


def _collectives(clock: Any, whole: bool) -> dict[str, float]:
    """Bytes/s of all-gathers and reduce-scatters as the plan counts them, and their latency."""
    ranks = dist.get_world_size()
    full = torch.ones(_BYTES // 4 // ranks * ranks)
    part = torch.ones(len(full) // ranks)
    seconds = []
    for size in (len(full), ranks):
        small, large = part[: size // ranks].clone(), full[:size].clone()
        took = []
        for _ in range(20):
            dist.barrier()
            began = clock()
            dist.all_gather_into_tensor(large, small)
            dist.reduce_scatter_tensor(small, large)
            took.append((clock() - began) / 2)
        middle = statistics.median(took)
        seconds.append(total([middle])[0] if whole else middle)
    moved = full.numel() * 4 * (ranks - 1) / ranks
    steps = max(1.0, (ranks - 1).bit_length())
    return {
        "bandwidth": moved / max(seconds[0] - seconds[1], 1e-9),
        "latency": seconds[1] / steps,
    }


if __name__ == "__main__":
    main()
