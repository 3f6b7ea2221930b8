"""Every benchmark still runs: in its smallest form, or with the long commands replaced.

What they measure here means nothing. That they start, find what they read and fill in
all of their figures and targets is what is tested.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks import (
    decode_speed,
    draft_speed,
    evaluate_speed,
    preprocess_speed,
    process,
    scaling,
    time_to_loss,
    train_speed,
)
from benchmarks.matmul_peak import matmul_peak
from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.model import ModelConfig
from tests.cli.speaking import make_run, make_tokenizer, make_wandering_run

TINY: dict[str, Any] = {
    "vocab_size": 400, "hidden_size": 32, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2,
    "head_dim": 16, "intermediate_size": 48, "context_length": 16,
}  # fmt: skip


def _main(
    module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str
) -> dict[str, Any]:
    """A benchmark as it is called, and what it wrote."""
    out = tmp_path / "result.json"
    monkeypatch.setattr(sys, "argv", ["benchmark", "--json", str(out), *arguments])
    module.main()
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    assert found["machine"]["processor"] is not None and "torch" in found["versions"]
    assert all(set(one) == {"target", "measured", "holds"} for one in found["targets"].values())
    return found


def _commands(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[list[str]]:
    """Let the commands of a benchmark leave what they would, without the hours; all of them."""
    ran: list[list[str]] = []

    def run(command: list[str], *, log: Path) -> process.Finished:  # noqa: ARG001
        ran.append(command[2:])
        name, *rest = command[2:]
        if name == "benchmarks.matmul_peak":
            return process.Finished(1.0, 1.0, "1e11\n", 1.0)
        if name == "benchmarks.hugging_face":
            from benchmarks.hugging_face import Spec

            spec = Spec(**json.loads(Path(rest[0]).read_text(encoding="utf-8")))
            ModelConfig.model_validate(spec.model)
            measured = {"tokens_per_second": 10.0, "bits_per_byte": 2.0, "seconds": 5, "steps": 9}
            Path(rest[1]).write_text(json.dumps(measured), encoding="utf-8")
            return process.Finished(1.0, 100.0, "", 1.0)
        config = load_config(Path(rest[rest.index("--config") + 1]), []).config
        _leave(rest[0], config.run_dir)
        return process.Finished(2.0, 50.0, "", 2.0)

    monkeypatch.setattr(module, "run", run)
    return ran


def _leave(command: str, run_dir: Path) -> None:
    (run_dir / "pretrain").mkdir(parents=True, exist_ok=True)
    if command == "preprocess":
        make_tokenizer().save(run_dir / "tokenizer")
    elif command == "pretrain":
        validation = {"type": "validation", "step": 20, "loss": 1.5, "elapsed": 9.0}
        records = [{"type": "train", "tokens_per_second": 20.0} for _ in range(3)]
        lines = [json.dumps(record) + "\n" for record in [*records, validation]]
        (run_dir / "pretrain/metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    elif command == "evaluate":
        (run_dir / "evaluate").mkdir()
        content = json.dumps({"held_out": {"bits_per_byte": 1.8}})
        (run_dir / "evaluate/results.json").write_text(content, encoding="utf-8")


def test_train_speed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran = _commands(monkeypatch, train_speed)
    found = _main(train_speed, monkeypatch, tmp_path, "--quick", "--preset", "nano")
    assert found["targets"]["against its default"]["measured"] == 2.0
    assert len(found["targets"]) == 4 and len(ran) == 7


def test_time_to_loss(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _commands(monkeypatch, time_to_loss)
    # Set back when the test ends: it works with a cache of its own.
    for name in ("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.setenv(name, "")
    found = _main(time_to_loss, monkeypatch, tmp_path, "--data", str(tmp_path))
    assert found["targets"]["shakespeare, short: validation loss, nats"]["holds"]
    assert found["targets"]["novels: ours as a share of theirs"]["measured"] == 0.9


def test_preprocess_speed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran = _commands(monkeypatch, preprocess_speed)
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat\n" * 500, encoding="utf-8")
    found = _main(preprocess_speed, monkeypatch, tmp_path, "--text", str(text))
    assert {"unigram: MB/s", "bpe: peak memory, MB"} <= found["targets"].keys()
    assert [one[1] for one in ran] == ["preprocess"] * 8


def test_evaluate_speed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = make_run(tmp_path / "run")
    rows = [
        {"messages": [{"role": "user", "content": f"the {word}"},
                      {"role": "assistant", "content": "cat"}]}
        for word in ("cat", "dog", "sun")
    ]  # fmt: skip
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    content["evaluate"] = {
        "tasks": [{"name": "animals", "data": str(data), "metrics": ["accuracy"],
                   "labels": ["cat", "dog"], "max_tokens": 4}]
    }  # fmt: skip
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    found = _main(evaluate_speed, monkeypatch, tmp_path, "--quick", "--config", str(config))
    assert found["targets"]["same_answers"]["holds"] and found["targets"]["same_choices"]["holds"]
    assert found["figures"]["chosen_rows"] == 3


def test_decode_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our part of it; the peers are only in the extra `bench`."""
    shape = {**TINY, "vocab_size": 320, "context_length": 1024}
    monkeypatch.setitem(decode_speed.SIZES, "12M", shape)
    monkeypatch.setattr(decode_speed, "LONG", 20)
    report = decode_speed.Report("decode_speed")
    decode_speed.measure_streams(report, seconds=0.01)
    assert report.figures["12M ours bf16, 16 texts, tokens/s"] > 0


def test_draft_speed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The enlarged model writes what the small one did, which is its own draft here."""
    for name, size in (("_HIDDEN", 128), ("_LAYERS", 3), ("_INTERMEDIATE", 160)):
        monkeypatch.setattr(draft_speed, name, size)
    config = make_wandering_run(tmp_path / "run")
    row = {"messages": [{"role": "user", "content": "the cat"},
                        {"role": "assistant", "content": "sat"}]}  # fmt: skip
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps(row) + "\n", encoding="utf-8")
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    content["evaluate"] = {"tasks": [{"name": "t", "data": str(data), "metrics": ["accuracy"]}]}
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    small = str(content["run_dir"])
    arguments = ("--quick", "--config", str(config), "--small", small)
    found = _main(draft_speed, monkeypatch, tmp_path, *arguments)
    assert found["targets"]["temperature 0.8: the same texts"]["holds"]
    assert found["figures"]["temperature 0.0: tokens in a step"] > 2


def test_hugging_face(tmp_path: Path) -> None:
    """The reference trainer, on real token shards, which a real command makes."""
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    from benchmarks.hugging_face import Spec, main

    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"the cat {n} sat on mat {n * n}" for n in range(400)))
    config = tmp_path / "config.yaml"
    values = {
        "run_dir": str(tmp_path / "run"),
        "tokenizer": {"type": "bpe", "vocab_size": 300},
        "data": {"sources": [{"path": str(text), "separator": "\n\n"}], "workers": 1,
                 "validation_fraction": 0.2},
    }  # fmt: skip
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    command = process.chatgpt("preprocess", "--config", str(config))
    done = process.run(command, log=tmp_path / "log")
    assert done.seconds > 0 and done.peak_mb > 10
    spec = Spec(
        model=ModelConfig.model_validate(TINY).model_dump(), run_dir=str(tmp_path / "run"),
        batch_size=2, steps=7, bf16=False, compile=False, attention="eager", evaluate=True,
    )  # fmt: skip
    main(spec, tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert found["steps"] == 7 and 0 < found["bits_per_byte"] < 10
    with pytest.raises(SystemExit, match="failed"):
        process.run(process.module("no_such_benchmark"), log=tmp_path / "log")


def test_matmul_peak() -> None:
    assert matmul_peak(torch.float32, seconds=0.01) > 1e8


def test_scaling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With collectives that take no time, processes on cores of their own divide the work."""
    monkeypatch.setattr(scaling, "preprocess", lambda *_, **__: None)
    monkeypatch.setattr(scaling.os, "cpu_count", lambda: 2)
    steps = {1: 1.0, 2: 0.5, 4: 0.6}

    def run(count: int, *_: object) -> dict[str, float]:
        return {"step": steps[count], "bandwidth": 1e15, "latency": 0.0}

    monkeypatch.setattr(scaling, "_run", run)
    figures = _main(scaling, monkeypatch, tmp_path, "--quick")["figures"]
    for method in ("ddp", "fsdp"):
        assert figures[f"{method}_2_foretold_share"] == pytest.approx(1, abs=1e-3)
        assert figures[f"{method}_4_foretold_seconds"] == pytest.approx(0.5, abs=1e-3)
        assert figures[f"{method}_4_measured_seconds"] == 0.6
