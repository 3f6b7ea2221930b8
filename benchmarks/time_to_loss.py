"""How good a model gets in a given time, and how long a known loss takes.

`--data` is a folder with `tinyshakespeare/input.txt` (karpathy/char-rnn) and
`english-novels/train.txt.xz` and `validation.txt.gz` (computationalstylistics'
100 English novels, 95 to train on and 5 to validate with).

The losses to reach on tiny Shakespeare are those that nanoGPT publishes for its two
recipes, characters, first 90% to train on: 1.8857 nats for a CPU (67 s on two cores),
1.4697 for a GPU.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

from benchmarks.hugging_face import Spec, write_spec
from benchmarks.process import chatgpt, module, run
from benchmarks.report import Report, options
from chatgpt_cli.config.loader import load_config

_SHAKESPEARE = """\
run_dir: {run_dir}
tokenizer: {{type: char}}
data: {{sources: ["{text}"], split: tail, validation_fraction: 0.1}}
"""
# Every setting of pretraining is the default but how long it lasts.
_SHORT = """\
model: {preset: nano, context_length: 64}
pretrain: {budget: 0.23 minutes, eval_tokens: 1000000, eval_every: 1000000}
"""
_LONG = """\
model: {{preset: tiny, dropout: {dropout}}}
# One evaluation, at the end, of the whole validation text.
pretrain: {{budget: {minutes} minutes, eval_tokens: 1000000, eval_every: 1000000}}
"""
_NOVELS = """\
run_dir: {run_dir}
tokenizer: {{vocab_size: 4096}}
data:
  sources: ["{data}/english-novels/train.txt.xz"]
  validation_sources: ["{data}/english-novels/validation.txt.gz"]
model: {{preset: {preset}}}
pretrain: {{budget: {minutes} minutes}}
"""


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the texts")
    parser.add_argument("--only", choices=["short", "long", "novels"], help="one part alone")
    parser.add_argument("--minutes", type=float, default=10, help="for each of the long runs")
    parser.add_argument("--preset", default="tiny", help="model for the novels (default: tiny)")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    report = Report("time_to_loss")
    parts = [arguments.only] if arguments.only else ["short", "long", "novels"]
    if arguments.quick:
        parts = ["short"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Whatever is compiled is compiled anew.
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "cache" / "inductor")
        if "short" in parts:
            _short(report, data, folder)
        if "long" in parts:
            _long(report, data, folder, arguments.minutes)
        if "novels" in parts:
            _novels(report, data, folder, arguments.minutes, arguments.preset)
    report.write(arguments.json)


def _prepare(folder: Path, name: str, text: str) -> Path:
    config = folder / f"{name}.yaml"
    config.write_text(text, encoding="utf-8")
    run(chatgpt("preprocess", "--config", str(config)), log=folder / "log")
    return config


def _validations(run_dir: Path) -> list[dict[str, float]]:
    lines = (run_dir / "pretrain/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [r for r in map(json.loads, lines) if r["type"] == "validation"]


def _short(report: Report, data: Path, folder: Path) -> None:
    """Wall clock of the whole command."""
    text = _SHAKESPEARE.format(run_dir=folder / "short", text=data / "tinyshakespeare/input.txt")
    config = _prepare(folder, "short", text + _SHORT)
    done = run(chatgpt("pretrain", "--config", str(config)), log=folder / "log")
    loss = _validations(folder / "short")[-1]["loss"]
    report.figure("shakespeare, short: wall clock of the command, s", done.seconds)
    report.target("shakespeare, short: validation loss, nats", loss, most=1.8857)
    report.target("shakespeare, short: seconds", done.seconds, most=20)


def _long(report: Report, data: Path, folder: Path, minutes: float) -> None:
    text = _SHAKESPEARE.format(run_dir=folder / "long", text=data / "tinyshakespeare/input.txt")
    config = _prepare(folder, "long", text + _LONG.format(dropout=0.2, minutes=minutes * 0.975))
    done = run(chatgpt("pretrain", "--config", str(config)), log=folder / "log")
    found = _validations(folder / "long")
    best = min(found, key=lambda record: record["loss"])
    report.figure("shakespeare, long: wall clock of the command, s", done.seconds)
    report.figure("shakespeare, long: best at second", best["elapsed"])
    report.target("shakespeare, long: validation loss, nats", best["loss"], most=1.4697)
    report.target("shakespeare, long: seconds", done.seconds, most=600)


def _novels(report: Report, data: Path, folder: Path, minutes: float, preset: str) -> None:
    """Bits per byte of ours and of the reference after the same minutes."""
    text = _NOVELS.format(run_dir=folder / "novels", data=data, minutes=minutes, preset=preset)
    config = _prepare(folder, "novels", text)
    project = load_config(config, []).config
    shape = project.model.build(vocab_size=project.tokenizer.vocab_size)
    report.figure("novels: parameters", shape.num_parameters())
    run(chatgpt("pretrain", "--config", str(config)), log=folder / "log")
    run(chatgpt("evaluate", "--config", str(config), "--metric", "perplexity"), log=folder / "log")
    results = json.loads((folder / "novels/evaluate/results.json").read_text(encoding="utf-8"))
    ours = results["held_out"]["bits_per_byte"]
    report.figure("novels: ours, bits per byte", ours)
    spec = Spec(
        model=shape.model_dump(),
        run_dir=str(folder / "novels"),
        batch_size=16,
        steps=0,
        bf16=True,
        compile=True,
        attention="eager",
        seconds=minutes * 60,
        learning_rate=1e-3,
        evaluate=True,
    )
    out = folder / "out.json"
    started = time.perf_counter()
    run(
        module("hugging_face", str(write_spec(spec, folder / "spec.json")), str(out)),
        log=folder / "log",
    )
    theirs = json.loads(out.read_text(encoding="utf-8"))
    report.figure("novels: Hugging Face Trainer, bits per byte", theirs["bits_per_byte"])
    report.figure("novels: Hugging Face Trainer, seconds of training", theirs["seconds"])
    report.figure("novels: Hugging Face Trainer, steps", theirs["steps"])
    report.figure("novels: Hugging Face Trainer, whole process, s", time.perf_counter() - started)
    report.target("novels: ours as a share of theirs", ours / theirs["bits_per_byte"], most=0.92)


if __name__ == "__main__":
    main()
